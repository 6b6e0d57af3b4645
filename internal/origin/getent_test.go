package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestTheSystemsResolverIsAskedByGetent(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no getent")
	}
	for _, tt := range []struct {
		script string // of getent; "" is none
		host   string
		want   string
		absent bool // it says that the name does not exist
	}{
		{"printf '192.0.2.1     STREAM proxy.example.com\\n192.0.2.1     DGRAM\\n2001:db8::1  RAW\\n::ffff:192.0.2.1 RAW\\nnoise\\n\\n'", "proxy.example.com", "[192.0.2.1 2001:db8::1]", false},
		{"exit 2", "proxy.example.com", "[]", true},
		{"echo nothing", "proxy.example.com", "[]", false},
		{"exit 1", "proxy.example.com", "[]", false},
		{"test \"$2\" = -x || echo 192.0.2.1 STREAM", "-x", "[]", false},
		{"", "proxy.example.com", "[]", false},
	} {
		dir := t.TempDir()
		if tt.script != "" {
			if err := os.WriteFile(filepath.Join(dir, "getent"), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		addrs, err := SystemLookup(context.Background(), []string{"PATH=" + dir}, tt.host)
		e, ok := errors.AsType[*net.DNSError](err)
		if got := fmt.Sprint(addrs); got != tt.want || (ok && e.IsNotFound) != tt.absent || (err == nil) != (len(addrs) > 0) {
			t.Errorf("%s: %s, %v; want %s", tt.script, got, err, tt.want)
		}
	}
}
