package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/switches"
)

// A fakeAdmin takes note of what it was asked.
type fakeAdmin struct {
	mu    sync.Mutex
	asked []server.SwitchRequest
	via   []string
	err   error

	drilled chan error // nil: a drill is over at once; else told that one began, and by what it ended
	ended   chan server.DrillEnd
}

func (a *fakeAdmin) SourceStatus() server.SourcesAnswer {
	return server.SourcesAnswer{PID: 7, Sources: []server.SourceStatus{{Name: "https://a.example", State: "up"}}}
}

func (a *fakeAdmin) Switches() server.SwitchesAnswer {
	return server.SwitchesAnswer{PID: 7, Switches: []switches.Switch{{Name: switches.Offline}}}
}

func (a *fakeAdmin) Switch(_ context.Context, req server.SwitchRequest, via string) (server.SwitchAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.via = append(a.asked, req), append(a.via, via)
	return server.SwitchAnswer{PID: 7, Done: "done", Changed: true}, a.err
}

func (a *fakeAdmin) Pardon(req server.PardonRequest, via string) (server.PardonAnswer, error) {
	return server.PardonAnswer{PID: 7, Source: req.Source, Pardoned: 1}, a.err
}

const secret = "0123456789abcdef0123456789abcdef"

func adminRig(t *testing.T, admin server.Admin, token bool) *rig {
	return newRig(t, parts{
		config: func(c *server.Config) { c.Admin = admin },
		settings: func(s *server.Settings) {
			if token {
				s.Token = server.TokenOf(secret)
			}
		},
	})
}

// ask sends a request of the API and gives status, header and body.
func ask(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK && resp.Header.Get("Content-Type") == "application/json" {
		var e struct{ Error, Hint string }
		if err := json.Unmarshal(data, &e); err != nil || e.Error == "" {
			t.Errorf("%s %s: the failure %d has the body %q (%v)", method, url, resp.StatusCode, data, err)
		}
	}
	return resp.StatusCode, resp.Header, string(data)
}

func TestTheAPIIsThereForWhoHasTheToken(t *testing.T) {
	admin := &fakeAdmin{}
	r := adminRig(t, admin, true)
	for _, tt := range []struct {
		auth string
		want int
	}{
		{"", 401},
		{"Bearer", 401},
		{"Bearer ", 401},
		{"Bearer " + secret[1:], 401},
		{"Bearer " + secret + "0", 401},
		{"Basic " + secret, 401},
		{secret, 401},
		{"Bearer " + secret, 200},
		{"bearer " + secret, 200},
	} {
		for _, path := range []string{"/-/sources", "/-/switches", "/-/nothing"} {
			want := tt.want
			if want == 200 && path == "/-/nothing" {
				want = 404 // only who has the token learns what there is
			}
			status, h, body := ask(t, r.client, "GET", r.base+path, "", "Authorization", tt.auth)
			if status != want || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s with %q: %d %v %s, want %d", path, tt.auth, status, h, body, want)
			}
			if status == 401 && h.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q does not say how to log in", path, tt.auth)
			}
			if strings.Contains(body+r.log.String(), secret[1:]) {
				t.Fatalf("the token is in the answer or the log")
			}
		}
	}
	ask(t, r.client, "POST", r.base+"/-/switches", `{"switch":"offline","to":"on"}`, "Content-Type", "application/json")
	if len(admin.asked) != 0 {
		t.Error("something was switched without the token")
	}
}

func TestWithoutATokenTheAPIIsNotAtTheListener(t *testing.T) {
	r := adminRig(t, &fakeAdmin{}, false)
	for _, auth := range []string{"", "Bearer ", "Bearer " + secret} {
		if status, _, _ := ask(t, r.client, "GET", r.base+"/-/sources", "", "Authorization", auth); status != 404 {
			t.Errorf("GET with %q: %d, want 404 as for any path of no module", auth, status)
		}
		if status, _, _ := ask(t, r.client, "POST", r.base+"/-/switches", "{}", "Authorization", auth, "Content-Type", "application/json"); status != 405 {
			t.Errorf("POST with %q: %d, want 405 as for any path", auth, status)
		}
	}
}

func TestTheAPIReadsWhatItUnderstandsOnly(t *testing.T) {
	const asJSON = "application/json"
	admin := &fakeAdmin{}
	r := adminRig(t, admin, true)
	for _, tt := range []struct {
		method, path, ctype, body string
		want                      int
	}{
		{"POST", "/-/switches", asJSON, `{"switch":"offline","to":"on","for":"30m","reason":"r","who":"ann"}`, 200},
		{"POST", "/-/switches", asJSON + "; charset=utf-8", `{"switch":"offline","to":"on"}`, 200},
		{"POST", "/-/sources/pardon", asJSON, `{"source":"a","module":"m.test/m"}`, 200},
		{"POST", "/-/switches", "text/plain", `{"switch":"offline","to":"on"}`, 415},
		{"POST", "/-/switches", "", `{"switch":"offline","to":"on"}`, 415},
		{"POST", "/-/switches", asJSON, ``, 400},
		{"POST", "/-/switches", asJSON, `{`, 400},
		{"POST", "/-/switches", asJSON, `[]`, 400},
		{"POST", "/-/switches", asJSON, `{"switch":7}`, 400},
		{"POST", "/-/switches", asJSON, `{"switch":"offline","to":"on","until":"later"}`, 400},
		{"POST", "/-/switches", asJSON, `{"switch":"offline","to":"on"}{"switch":"origin"}`, 400},
		{"POST", "/-/switches", asJSON, `{"reason":"` + strings.Repeat("x", 20<<10) + `"}`, 413},
		{"POST", "/-/switches", asJSON, `{"switch":"offline"}` + strings.Repeat(" ", 20<<10), 413},
		{"PUT", "/-/switches", asJSON, `{}`, 405},
		{"DELETE", "/-/switches", "", ``, 405},
		{"POST", "/-/sources", asJSON, `{}`, 405},
		{"GET", "/-/sources/pardon", "", ``, 405},
		{"HEAD", "/-/sources", "", ``, 200},
		{"GET", "/-/", "", ``, 404},
	} {
		status, h, body := ask(t, r.client, tt.method, r.base+tt.path, tt.body, "Authorization", "Bearer "+secret, "Content-Type", tt.ctype)
		if status != tt.want {
			t.Errorf("%s %s %.60s: %d %s, want %d", tt.method, tt.path, tt.body, status, body, tt.want)
		}
		if status == 405 && h.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", tt.method, tt.path)
		}
	}
	if len(admin.asked) != 2 || admin.asked[0] != (server.SwitchRequest{Switch: "offline", To: "on", For: "30m", Reason: "r", Who: "ann"}) || !strings.HasPrefix(admin.via[0], "token from 127.0.0.1:") {
		t.Errorf("asked was %+v by %q", admin.asked, admin.via)
	}
}

func TestAFailureOfTheAPIHasTheStatusOfItsCause(t *testing.T) {
	admin := &fakeAdmin{}
	r := adminRig(t, admin, true)
	for want, err := range map[int]error{
		400: &server.AdminError{Cause: server.Mistaken, Text: "mistaken", Hint: "write it so"},
		404: &server.AdminError{Cause: server.Unknown, Text: "unknown"},
		409: &server.AdminError{Cause: server.Clashing, Text: "clashing"},
		502: &server.AdminError{Cause: server.Failed, Text: "failed", Steps: []server.Step{{What: "probe"}}},
		500: errors.New("a bug"),
	} {
		admin.err = err
		status, _, body := ask(t, r.client, "POST", r.base+"/-/switches", `{"switch":"offline","to":"on"}`, "Authorization", "Bearer "+secret, "Content-Type", "application/json")
		if status != want || !strings.Contains(body, `"error": "`+err.Error()+`"`) {
			t.Errorf("%v: %d %s, want %d", err, status, body, want)
		}
		if strings.Contains(body, "steps") != (want == 502) || strings.Contains(body, "hint") != (want == 400) {
			t.Errorf("%v: %s", err, body)
		}
	}
}

func TestTheLocalSocketNeedsNoTokenAndHasTheAPIOnly(t *testing.T) {
	admin := &fakeAdmin{}
	r := adminRig(t, admin, false)
	dir, err := os.MkdirTemp("", "s") // the path of a socket may not be as long as the test's name makes it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.server.ServeAdmin(ctx, ln) }()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}}
	for path, want := range map[string]int{"/-/sources": 200, "/-/switches": 200, "/healthz": 404, "/rsc.io/quote/@v/list": 404, "/": 404} {
		if status, _, body := ask(t, c, "GET", "http://sluice"+path, ""); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	if status, _, body := ask(t, c, "POST", "http://sluice/-/switches", `{"switch":"offline","to":"on"}`, "Content-Type", "application/json"); status != 200 || admin.via[0] != "socket" {
		t.Errorf("POST: %d %s by %q", status, body, admin.via)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("ServeAdmin ended with %v", err)
	}
}

func (a *fakeAdmin) Drill(ctx context.Context, req server.DrillRequest, via string, begun func()) (server.DrillAnswer, error) {
	if a.drilled != nil {
		a.drilled <- nil
		select {
		case <-ctx.Done():
		case <-a.ended:
			begun()
		}
		a.drilled <- context.Cause(ctx)
	}
	return server.DrillAnswer{PID: 7, Fault: req.Fault, Source: req.Source}, a.err
}

func (a *fakeAdmin) EndDrill(req server.DrillEnd, _ string) error {
	if req.Source != "a" {
		return &server.AdminError{Cause: server.Unknown, Text: "no drill is inside " + req.Source}
	}
	a.ended <- req
	return nil
}

func TestADrillThatIsAcceptedIsSaidToBeSoBeforeItIsOver(t *testing.T) {
	admin := &fakeAdmin{drilled: make(chan error), ended: make(chan server.DrillEnd)}
	r := adminRig(t, admin, true)
	post := func(path, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.base+path, strings.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+secret)
			var resp *http.Response
			if resp, err = r.client.Do(req); err == nil {
				t.Cleanup(func() { resp.Body.Close() })
				return resp
			}
		}
		t.Error(err)
		return &http.Response{Status: "none", Body: http.NoBody}
	}
	head := make(chan *http.Response, 1)
	go func() { head <- post("/-/drill", `{"source":"a","fault":"503","for":"1h"}`) }()
	<-admin.drilled
	if got := post("/-/drill/end", `{"source":"b"}`); got.StatusCode != 404 {
		t.Errorf("a drill that is not there was ended: %s", got.Status)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { post("/-/drill/end", `{"source":"a","who":"ann"}`) })
	resp := <-head // while the drill is still held up
	if resp.StatusCode != 200 || resp.ContentLength != -1 {
		t.Errorf("accepted: %s, %d bytes", resp.Status, resp.ContentLength)
	}
	if err := <-admin.drilled; err != nil {
		t.Errorf("the drill ended by %v", err)
	}
	var ans server.DrillAnswer
	if err := json.NewDecoder(resp.Body).Decode(&ans); err != nil || ans.Fault != "503" {
		t.Errorf("the report is %+v, %v", ans, err)
	}
}

func TestADrillIsToldThatWhoAskedForItIsGone(t *testing.T) {
	admin := &fakeAdmin{drilled: make(chan error, 2)}
	r := adminRig(t, admin, true)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", r.base+"/-/drill", strings.NewReader(`{"source":"a","fault":"503","for":"1h"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+secret)
	done := make(chan error, 1)
	go func() {
		resp, err := r.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-admin.drilled
	leave()
	if err := <-admin.drilled; !errors.Is(err, context.Canceled) {
		t.Errorf("the drill ended by %v", err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
}

func TestADrillIsAskedForByPOSTAlone(t *testing.T) {
	r := adminRig(t, &fakeAdmin{}, true)
	for _, tt := range []struct {
		method, body string
		want         int
	}{
		{"GET", "", 405},
		{"POST", `{"source":"a","fault":"503","until":"x"}`, 400},
		{"POST", `{"source":"a","fault":"503","for":"5s"}`, 200},
	} {
		status, h, body := ask(t, r.client, tt.method, r.base+"/-/drill", tt.body, "Authorization", "Bearer "+secret, "Content-Type", "application/json")
		if status != tt.want || status == 405 && h.Get("Allow") != "POST" || status == 200 && !strings.Contains(body, `"fault": "503"`) {
			t.Errorf("%s %s: %d %v %s", tt.method, tt.body, status, h, body)
		}
	}
}
