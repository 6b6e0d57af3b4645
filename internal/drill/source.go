package drill

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/modsluice/sluice/internal/goproxy"
)

// Proxy is the GOPROXY at base, an http or https URL that may have a path,
// credentials, and a query, which is sent with every path, as the go command
// does it. Where rt gives no answer, it is a 502 that says so.
func Proxy(base *url.URL, rt http.RoundTripper) http.Handler {
	name := *base
	name.User, name.RawQuery = nil, ""
	return &httputil.ReverseProxy{
		Transport:     rt,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			esc := strings.TrimRight(base.EscapedPath(), "/") + r.In.URL.EscapedPath()
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = base.Scheme, base.Host, ""
			r.Out.URL.Path, r.Out.URL.RawPath = strings.TrimRight(base.Path, "/")+r.In.URL.Path, esc
			if base.RawQuery != "" {
				r.Out.URL.RawQuery = base.RawQuery
			}
			if base.User != nil {
				pw, _ := base.User.Password()
				r.Out.SetBasicAuth(base.User.Username(), pw)
			}
		},
		// What is relative to the source is not so to the place before it.
		ModifyResponse: func(resp *http.Response) error {
			if loc, err := resp.Location(); err == nil {
				resp.Header.Set("Location", loc.String())
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "sluice drill: the true source "+name.String()+" gave no answer: "+err.Error(), http.StatusBadGateway)
		},
	}
}

// Tree is the GOPROXY tree in the directory dir. It reads nothing outside of it.
func Tree(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := strings.TrimPrefix(r.URL.Path, "/")
		f, st, err := openFile(dir, p)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			http.Error(w, "not found: no file "+p, http.StatusNotFound)
		case err != nil:
			http.Error(w, "sluice drill: the true source cannot be read: "+err.Error(), http.StatusBadGateway)
		default:
			defer f.Close()
			if req, err := goproxy.ParsePath(p); err == nil {
				w.Header().Set("Content-Type", req.Kind.ContentType())
			}
			http.ServeContent(w, r, "", st.ModTime(), f)
		}
	})
}

func openFile(dir, p string) (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, errors.New(err.Error()) // a tree that is not there has not said that a module is not
	}
	defer root.Close()
	// Looked at before it is opened: opening a named pipe waits for its writer.
	st, err := root.Stat(p)
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := root.Open(p)
	return f, st, err
}
