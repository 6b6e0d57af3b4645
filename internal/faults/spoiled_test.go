package faults_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/modsluice/sluice/internal/faults"
)

func TestATransportMayBeSpoiledAtItsFirstRequest(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	for range 50 {
		next := &http.Transport{ForceAttemptHTTP2: true}
		rt := faults.Transport(next, faults.Always(faults.Fault{Name: "503", Only: "info"}))
		var wg sync.WaitGroup
		for _, path := range []string{"/m.test/x/@v/v1.0.0.info", "/m.test/x/@v/v1.0.0.mod"} {
			wg.Go(func() {
				req, _ := http.NewRequest(http.MethodGet, s.URL+path, nil)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		wg.Wait()
		next.CloseIdleConnections()
	}
}
