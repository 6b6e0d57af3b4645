package goenv

import (
	"strings"
	"testing"
)

func TestANetrcEntryCountsWithLoginAndPasswordAlone(t *testing.T) {
	const file = `# no comment, but words in pairs
machine half.example.com login bob
machine a.example.com login alice password one
machine a.example.com login alice password two
machine b.example.com
  login bob
  password three
macdef init
machine m.example.com login x password y

machine c.example.com:8443 login carl password four
default login anyone password none
`
	for _, tt := range []struct{ host, login, password string }{
		{"a.example.com", "alice", "one"},
		{"b.example.com", "bob", "three"},
		{"c.example.com:8443", "carl", "four"},
		{"c.example.com", "", ""},
		{"half.example.com", "", ""},
		{"m.example.com", "", ""},
		{"other.example.com", "", ""},
		{"", "", ""},
	} {
		login, password, ok := NetrcLogin(file, tt.host)
		if login != tt.login || password != tt.password || ok != (tt.login != "") {
			t.Errorf("for %q: %q, %q, %v; want %q, %q", tt.host, login, password, ok, tt.login, tt.password)
		}
	}
}

func FuzzNetrcLogin(f *testing.F) {
	f.Add("machine h login l password p", "h")
	f.Add("macdef x\n\nmachine h\nlogin l password p default", "h")
	f.Fuzz(func(t *testing.T, text, host string) {
		login, password, ok := NetrcLogin(text, host)
		if ok && (login == "" || password == "" || !strings.Contains(text, login) || !strings.Contains(text, password)) || !ok && login+password != "" {
			t.Errorf("NetrcLogin(%q, %q) = %q, %q, %v", text, host, login, password, ok)
		}
	})
}
