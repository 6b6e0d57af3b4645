package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/modsluice/sluice/internal/goproxy"
)

// What a source is asked by who compares sources: one request for one answer, so that
// what comes, and what does not, is the source's doing.

// Once asks the proxy for req as Get does, but a zip that breaks off stays broken off.
func (s *HTTPSource) Once(ctx context.Context, req goproxy.Request) (*Answer, error) {
	return s.net.Get(ctx, s.name, s.url(req))
}

// A Part is some bytes of a file.
type Part struct {
	Data   []byte // none if the source does not give parts
	Size   int64  // of the whole file; -1 if the source did not say
	Ranged bool   // the source gave the part; else it began to give the whole file
}

// Part asks for the n bytes of req from off on. A source that does not give parts is
// no error; one that answers with other bytes than were asked for is.
func (s *HTTPSource) Part(ctx context.Context, req goproxy.Request, off, n int64) (Part, error) {
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+n-1)}}
	resp, b, err := s.net.begin(ctx, s.name, s.url(req), h)
	if err != nil {
		return Part{}, err
	}
	defer b.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return Part{Size: resp.ContentLength}, nil
	}
	total, ok := fits(resp, off, -1)
	if !ok {
		return Part{}, &Error{Source: s.name, Stage: StageContent, Status: resp.StatusCode, Err: fmt.Errorf("asked for bytes %d to %d, it answered with %q", off, off+n-1, resp.Header.Get("Content-Range"))}
	}
	data, rerr := io.ReadAll(io.LimitReader(b, n))
	if rerr != nil {
		return Part{}, rerr
	}
	return Part{Data: data, Size: total, Ranged: true}, nil
}
