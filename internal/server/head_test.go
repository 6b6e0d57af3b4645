package server_test

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/server"
)

func TestAHeadIsReadOnlyIfItStandsAlone(t *testing.T) {
	const host = "Host: x\r\n"
	for _, tt := range []struct {
		head  string
		path  string
		alone bool
	}{
		{"GET /a.b/c/@v/list HTTP/1.1\r\nHost: x:80\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n", "a.b/c/@v/list", true},
		{"HEAD /a.b/%21c/@v/v1.0.0%2Bincompatible.mod HTTP/1.1\r\nhOST:[::1]:80\r\nConnection: Keep-Alive \r\n\r\n", "a.b/!c/@v/v1.0.0+incompatible.mod", true},
		{"GET /a.b/c/@v/f%2fg.info HTTP/1.1\r\n" + host + "\r\n", "", true},
		{"GET /a.b/@v/%2 HTTP/1.1\r\n" + host + "\r\n", "", true},
		{"GET /a.b/@v/list?x HTTP/1.1\r\n" + host + "\r\n", "", true},
		{"GET http://x/a.b/@v/list HTTP/1.1\r\n" + host + "\r\n", "", true},
		{"GET / HTTP/1.1\r\n" + host + "\r\n", "", true},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "If-None-Match: \"x\"\r\n\r\n", "", true},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "rANGE: bytes=0-\r\n\r\n", "", true},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Disable-Module-Fetch: true\r\n\r\n", "", true},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Via: 1.1 x\r\n\r\n", "", true},
		{"GET /a.b/@v/list HTTP/1.1\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + host + "\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\nHost: a/b\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "transfer-encoding: chunked\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Upgrade: h2c\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "X: y\r\n folded\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "X: y\nContent-Length: 5\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", "", false},
		{"GET /a.b/@v/list HTTP/1.0\r\n" + host + "\r\n", "", false},
		{"GET  /a.b/@v/list HTTP/1.1\r\n" + host + "\r\n", "", false},
		{"POST /a.b/@v/list HTTP/1.1\r\n" + host + "\r\n", "", false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", false},
	} {
		_, path, n, whole := server.ParseHead([]byte(tt.head + "GET /next"))
		want := 0
		if tt.alone {
			want = len(tt.head)
		}
		if path != tt.path || n != want || !whole {
			t.Errorf("%q: path %q, %d bytes (whole: %v), want %q, %d", tt.head, path, n, whole, tt.path, want)
		}
		if tt.alone {
			for i := range len(tt.head) {
				if _, path, n, whole := server.ParseHead([]byte(tt.head[:i])); path != "" || n != 0 || whole {
					t.Errorf("%q: path %q, %d bytes (whole: %v) of a part", tt.head[:i], path, n, whole)
				}
			}
		}
	}
}

// Where a head stands alone, net/http finds the same request in it, no body, and
// the same end.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET /a.b/c/@v/list HTTP/1.1\r\nHost: x:80\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\nGET /",
		"HEAD /a.b/%21c/@v/v1.0.0%2Bincompatible.mod HTTP/1.1\r\nhOST:[::1]:80\r\nConnection: Keep-Alive \r\n\r\n",
		"GET /a.b/c/@v/f%2fg.info?x HTTP/1.1\r\nHost: x\r\nVia: 1.1 y\r\nX: \r\n\r\n",
		"GET http://x/a.b/@v/list HTTP/1.1\r\nHost:\r\n\r\n",
		"GET /a.b/../c/@v/list HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\nTE: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		method, path, n, _ := server.ParseHead(b)
		if n == 0 {
			if path != "" {
				t.Fatalf("the path is %q, and it does not stand alone", path)
			}
			return
		}
		r := bufio.NewReaderSize(bytes.NewReader(b), len(b)+16)
		req, err := http.ReadRequest(r)
		if err != nil {
			// Only net/http's answer to it is missing then, with which it closes the connection.
			if path != "" {
				t.Fatalf("an answer for %q, which net/http refuses: %v", path, err)
			}
			return
		}
		if left := r.Buffered(); left != len(b)-n {
			t.Fatalf("%d bytes left, net/http leaves %d", len(b)-n, left)
		}
		if req.Method != method || req.ContentLength != 0 || len(req.TransferEncoding) > 0 || req.Body != http.NoBody || req.Close {
			t.Fatalf("net/http reads %+v", req)
		}
		if path == "" {
			return
		}
		if req.URL.Path != "/"+path || req.URL.RawQuery != "" || req.URL.Host != "" {
			t.Fatalf("the path is %q, net/http reads %q of %q", path, req.URL.Path, req.URL)
		}
		for _, k := range []string{"Range", "If-None-Match", "If-Modified-Since", "Via", "If-Match", "If-Unmodified-Since", "If-Range", "Disable-Module-Fetch"} {
			if _, ok := req.Header[k]; ok {
				t.Fatalf("%s is overlooked", k)
			}
		}
		for k, vv := range req.Header {
			if k == "" || strings.ContainsFunc(k+strings.Join(vv, ""), func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }) {
				t.Fatalf("a field is wrong: %q %q", k, vv)
			}
		}
	})
}
