package explain

import (
	"strings"
	"testing"
)

// A log of 10 MB, most of it well, must take less than a second.
func BenchmarkTenMegabytes(b *testing.B) {
	part := strings.Repeat("2024-05-06T07:08:09.1234567Z go: downloading github.com/x/y v1.2.3\n#11 12.345 some/package/that/compiles\n{\"level\":\"info\",\"msg\":\"served\",\"status\":200,\"path\":\"/a/b/c\"}\nerror: warning: retrying https://proxy.example.com/x in 5 s\n", 200)
	log := strings.Repeat(part, 10<<20/len(part)) + "go: github.com/a/b@v1.2.3: reading https://proxy.example.com/github.com/a/b/@v/v1.2.3.mod: 502 Bad Gateway\n"
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		if Text(log).Cause != "upstream-server-error" {
			b.Fatal("not seen")
		}
	}
}
