package faults

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// arrival is how long a body may take to reach the client before its connection
// is reset: a reset overtakes what is still on its way.
const arrival = 50 * time.Millisecond

func status(code int) func(*exchange) {
	return func(x *exchange) {
		h := x.w.Header()
		switch code {
		case http.StatusUnauthorized:
			h.Set("WWW-Authenticate", `Basic realm="faults"`)
		case http.StatusProxyAuthRequired:
			h.Set("Proxy-Authenticate", `Basic realm="faults"`)
		}
		if x.arg != "" {
			h.Set("Retry-After", x.arg)
		}
		http.Error(x.w, fmt.Sprintf("This source answers %d %s, as it was told to.", code, http.StatusText(code)), code)
	}
}

const portal = `<!DOCTYPE html>
<html><head><title>Sign in to the network</title></head>
<body><h1>Welcome</h1><p>Please sign in to go on.</p><form method="post"><input name="user"><input name="password" type="password"></form></body></html>
`

func page(code int) func(*exchange) {
	return func(x *exchange) {
		x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		x.w.Header().Set("Content-Length", strconv.Itoa(len(portal)))
		x.w.WriteHeader(code)
		io.WriteString(x.w, portal)
	}
}

func empty(code int) func(*exchange) {
	return func(x *exchange) {
		if x.req.Kind != 0 {
			x.w.Header().Set("Content-Type", x.req.Kind.ContentType())
		}
		x.w.WriteHeader(code)
	}
}

// noiseFrom is random bytes, the same for the same request.
func (x *exchange) noiseFrom() io.Reader {
	return rand.NewChaCha8(sha256.Sum256([]byte("/" + strings.TrimPrefix(x.r.URL.Path, x.before))))
}

func noise(x *exchange) {
	spoil(func(x *exchange, a *answer) {
		x.begin(a, a.size)
		io.CopyN(x.w, x.noiseFrom(), a.size)
	})(x)
}

// hijack takes the connection over; ok is false if there is none to take, as
// on HTTP/2.
func (x *exchange) hijack() (c net.Conn, ok bool) {
	c, _, err := http.NewResponseController(x.w).Hijack()
	return c, err == nil
}

func garbage(x *exchange) {
	c, ok := x.hijack()
	if !ok {
		x.abort()
	}
	defer c.Close()
	io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n")
}

// The redirects of a source to itself have Locations relative to the request,
// which stay right behind any prefix.

func loginRedirect(x *exchange) {
	if x.r.URL.Query().Has("login") {
		page(http.StatusOK)(x)
		return
	}
	x.w.Header().Set("Location", "?login=1")
	x.w.WriteHeader(http.StatusFound)
}

func redirectLoop(x *exchange) {
	n, _ := strconv.Atoi(x.r.URL.Query().Get("loop"))
	x.w.Header().Set("Location", fmt.Sprintf("?loop=%d", (n+1)%2)) // to and fro
	x.w.WriteHeader(http.StatusFound)
}

func redirectNowhere(x *exchange) { x.w.WriteHeader(http.StatusMovedPermanently) }

func redirect(x *exchange) {
	to := x.arg
	if strings.HasSuffix(to, "/") {
		to += strings.TrimPrefix(x.r.URL.EscapedPath(), x.before)
	}
	x.w.Header().Set("Location", to)
	x.w.WriteHeader(http.StatusFound)
}

func hang(x *exchange) {
	var d time.Duration // zero: for ever
	if x.arg != "" {
		d, _ = time.ParseDuration(x.arg)
	}
	if x.wait(d) {
		x.pass()
		return
	}
	x.abort()
}

func slowList(x *exchange) {
	if x.req.Kind != goproxy.List && x.req.Kind != goproxy.Latest {
		x.pass()
		return
	}
	hang(x)
}

// spoil makes a fault of a function on the whole answer.
func spoil(f func(x *exchange, a *answer)) func(*exchange) {
	return func(x *exchange) {
		if x.r.Method == http.MethodHead {
			x.pass()
			return
		}
		a, err := x.ask("", true)
		if err != nil {
			x.fail(err)
			return
		}
		defer a.Close()
		if !a.ok() {
			x.relay(a)
			return
		}
		f(x, a)
	}
}

// at is how many bytes of a come before the place that the argument says.
func (x *exchange) at(a *answer) int64 {
	p, _ := parsePlace(x.arg) // canonPlace let it pass
	return p.at(a.size)
}

func hangBody(x *exchange, a *answer) {
	at := x.at(a)
	x.begin(a, max(a.size, at+1))
	body := a.body()
	io.CopyN(x.w, body, at)
	x.flush()
	if x.wait(0) {
		io.Copy(x.w, body)
		return
	}
	x.abort()
}

func drip(x *exchange, a *answer) {
	rate, _ := strconv.ParseInt(x.arg, 10, 64)
	// Up to 20 portions a second, each of the same size.
	size, pause := int64(1), time.Second/time.Duration(max(rate, 1))
	if rate > 20 {
		size = rate / 20
		pause = time.Duration(float64(size) / float64(rate) * float64(time.Second))
	}
	x.begin(a, a.size)
	x.flush()
	body := a.body()
	for left := a.size; left > 0; left -= size {
		if !x.wait(pause) {
			x.abort()
		}
		if x.over() {
			size = left
		}
		if _, err := io.CopyN(x.w, body, min(size, left)); err != nil {
			x.abort()
		}
		x.flush()
	}
}

func endless(x *exchange) {
	if x.req.Kind == 0 || x.r.Method == http.MethodHead {
		x.pass()
		return
	}
	x.w.Header().Set("Content-Type", x.req.Kind.ContentType())
	w := x.w
	mod := x.req.Module
	var more func(n int) error
	switch x.req.Kind {
	case goproxy.List:
		more = func(n int) error {
			var b bytes.Buffer
			for i := range 1000 {
				fmt.Fprintf(&b, "v0.%d.%d\n", n, i)
			}
			_, err := w.Write(b.Bytes())
			return err
		}
	case goproxy.Zip:
		io.WriteString(w, "PK\x03\x04")
		noise := x.noiseFrom()
		more = func(int) error { _, err := io.CopyN(w, noise, 32<<10); return err }
	case goproxy.Mod:
		fmt.Fprintf(w, "module %s\n", mod.Path)
		line := []byte(strings.Repeat("// There is more to come.\n", 1000))
		more = func(int) error { _, err := w.Write(line); return err }
	default:
		fmt.Fprintf(w, `{"Version":%q,"More":"`, mod.Version)
		fill := bytes.Repeat([]byte("and on "), 4000)
		more = func(int) error { _, err := w.Write(fill); return err }
	}
	for n := 0; x.r.Context().Err() == nil && !x.over(); n++ {
		if more(n) != nil {
			break
		}
	}
	x.abort()
}

func reset(x *exchange) {
	if x.arg == "" {
		x.reset()
		return
	}
	spoil(func(x *exchange, a *answer) {
		at := x.at(a)
		x.begin(a, max(a.size, at+1))
		io.CopyN(x.w, a.body(), at)
		x.flush()
		x.wait(arrival)
		x.reset()
	})(x)
}

func (x *exchange) reset() {
	c, ok := x.hijack()
	if !ok {
		x.abort()
	}
	resetConn(c)
}

func cut(x *exchange, a *answer) {
	at := x.at(a)
	x.begin(a, max(a.size, at+1))
	io.CopyN(x.w, a.body(), at)
	x.flush()
	x.abort()
}

func cutChunked(x *exchange, a *answer) {
	at := x.at(a)
	x.begin(a, -1)
	io.CopyN(x.w, a.body(), at)
	x.flush()
	x.abort()
}

func cutFirst(x *exchange) {
	if x.r.Header.Get("Range") != "" {
		x.pass()
		return
	}
	spoil(cut)(x)
}

func cutNoRange(x *exchange) {
	r := x.r.Clone(x.r.Context())
	r.Header.Del("Range")
	r.Header.Del("If-Range")
	x.r = r
	spoil(func(x *exchange, a *answer) {
		a.sent.Del("Accept-Ranges")
		cut(x, a)
	})(x)
}

func cutRangeLie(x *exchange) {
	if x.r.Header.Get("Range") == "" {
		spoil(cut)(x)
		return
	}
	spoil(func(x *exchange, part *answer) {
		if part.status != http.StatusPartialContent {
			x.relay(part)
			return
		}
		all, err := x.ask("", false)
		if err != nil {
			x.fail(err)
			return
		}
		defer all.Close()
		x.begin(part, part.size)
		io.CopyN(x.w, all.body(), part.size)
	})(x)
}

// short leaves at least one byte out, where there is one.
func short(x *exchange, a *answer) {
	at := max(min(x.at(a), a.size-1), 0)
	x.begin(a, at)
	io.CopyN(x.w, a.body(), at)
}

func closeAt(x *exchange, a *answer) {
	at := max(min(x.at(a), a.size-1), 0)
	c, ok := x.hijack()
	if !ok { // HTTP/2 has ends of streams, but needs no lengths
		x.begin(a, -1)
		io.CopyN(x.w, a.body(), at)
		return
	}
	defer c.Close()
	h := a.sent
	h.Del("Content-Length")
	h.Set("Connection", "close")
	fmt.Fprintf(c, "HTTP/1.0 %d %s\r\n", a.status, http.StatusText(a.status))
	h.Write(c)
	io.WriteString(c, "\r\n")
	io.CopyN(c, a.body(), at)
}

func dropLength(x *exchange, a *answer) {
	x.begin(a, -1)
	io.Copy(x.w, a.body())
}

func encode(coding string) func(*exchange) {
	return func(x *exchange) {
		a, err := x.ask("", false)
		if err != nil {
			x.fail(err)
			return
		}
		defer a.Close()
		if !a.ok() || a.sent.Get("Content-Encoding") != "" {
			x.relay(a)
			return
		}
		out := &answer{status: a.status, sent: a.sent}
		defer out.Close()
		var w io.WriteCloser = gzip.NewWriter(out)
		if coding == "deflate" {
			w = zlib.NewWriter(out)
		}
		_, err = io.Copy(w, a.body())
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			x.fail(err)
			return
		}
		out.sent.Set("Content-Encoding", coding)
		out.sent.Del("Accept-Ranges")
		x.relay(out)
	}
}
