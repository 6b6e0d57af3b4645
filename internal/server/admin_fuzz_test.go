package server_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/server"
)

// Whatever is sent to the API, it does what was meant or says in JSON what is
// wrong with it.
func FuzzAdminBody(f *testing.F) {
	paths := []string{"/-/switches", "/-/sources/pardon", "/-/drill", "/-/drill/end"}
	for _, s := range []string{
		"", "{}", "null", `{"switch":"offline","to":"on","for":"30m","reason":"r","who":"ann"}`, `{"source":"a","fault":"503"}`, `{"source":"a"}`,
		`{"source":"b"}`, `{"until":1}`, `{} {}`, `[]`, `{"source":"` + strings.Repeat("a", 20<<10) + `"}`, `{"source":"\ud800"}`,
	} {
		for i := range paths {
			f.Add(uint8(i), []byte(s))
		}
	}
	admin := &fakeAdmin{ended: make(chan server.DrillEnd, 1)}
	r := newRig(f, parts{
		config:   func(c *server.Config) { c.Admin = admin },
		settings: func(s *server.Settings) { s.Token = server.TokenOf(secret) },
	})
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		path := paths[int(which)%len(paths)]
		req := httptest.NewRequest("POST", path, strings.NewReader(string(body)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		r.server.ServeHTTP(w, req)
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("POST %s %q: %d and a body that is no JSON: %q", path, body, w.Code, w.Body)
		}
		why, failed := answer["error"].(string)
		if failed == (w.Code == 200) || failed && why == "" || w.Code >= 500 || w.Code != 200 && w.Code < 400 {
			t.Errorf("POST %s %q: %d %s", path, body, w.Code, w.Body)
		}
		if w.Code == 200 && !json.Valid(body) {
			t.Errorf("POST %s %q was understood", path, body)
		}
		select {
		case <-admin.ended:
		default:
		}
		admin.asked, admin.via = nil, nil
		r.log.requests(t)
	})
}
