package main

import (
	"net"
	"net/url"
	"testing"
)

func TestSluiceKnowsItsOwnAddress(t *testing.T) {
	for _, tt := range []struct {
		listen, source string
		self           bool
	}{
		{"127.0.0.1:7070", "http://127.0.0.1:7070", true},
		{"127.0.0.1:7070", "http://localhost:7070/", true},
		{"127.0.0.1:7070", "http://LOCALHOST:7070/below", true},
		{"127.0.0.1:7070", "http://[::1]:7070", false}, // another program may listen there
		{"127.0.0.1:7070", "http://127.0.0.2:7070", false},
		{"localhost:7070", "http://127.0.0.1:7070", true},
		{"[::1]:7070", "http://[0:0:0:0:0:0:0:1]:7070", true},
		{"127.0.0.1:7070", "http://0.0.0.0:7070", true},
		{"127.0.0.1:7070", "http://127.0.0.1:7071", false},
		{"127.0.0.1:7070", "http://192.0.2.1:7070", false},
		{"127.0.0.1:7070", "https://proxy.example.com", false},
		{":7070", "http://localhost:7070", true},
		{":443", "https://localhost", true},
		{":80", "http://127.0.0.1/", true},
		{"0.0.0.0:7070", "http://127.0.0.1:7070", true},
		{"[::]:7070", "http://[::1]:7070", true},
		{":7070", "http://192.0.2.1:7070", false},
		{"proxy.example.com:7070", "http://proxy.example.com:7070", true},
		{"192.0.2.1:7070", "http://localhost:7070", false},
		{"127.0.0.1:0", "http://127.0.0.1:80", false},
		{"127.0.0.1:7070", "http://", false},
	} {
		u, err := url.Parse(tt.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := isSelf(u, tt.listen); got != tt.self {
			t.Errorf("a server at %s takes %s for itself: %v, want %v", tt.listen, tt.source, got, tt.self)
		}
	}
}

func TestACommandReachesItsServerAtAnAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:4711": "http://127.0.0.1:4711",
		"0.0.0.0:4711":   "http://localhost:4711",
		"[::]:4711":      "http://localhost:4711",
		"[::1]:4711":     "http://[::1]:4711",
		"192.0.2.1:4711": "http://192.0.2.1:4711",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := localURL(a); got != want {
			t.Errorf("a server at %s is reached at %s, want %s", addr, got, want)
		}
	}
}
