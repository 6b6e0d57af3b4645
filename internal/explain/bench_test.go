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

// 10 MB of lines that sound like a failure of a download but decide nothing, alike
// or each different, must not take longer than others.
func BenchmarkTenMegabytesOfNoise(b *testing.B) {
	parts := map[string]string{
		"alike":         "pool: read tcp 127.0.0.1:40022->127.0.0.1:39111: read: connection reset by peer\n",
		"different":     "pool @: read tcp 127.0.0.1:40022->127.0.0.1:39111: read: connection reset by peer\n",
		"warnings":      "warning: connection refused by somebody\n",
		"tries":         "go: github.com/a/b@v1: Get \"https://proxy.example.com/a/@v/v1.mod\": dial tcp 203.0.113.3:443: i/o timeout\nretrying in 3 s\n",
		"long lines":    strings.Repeat("@ connection reset by peer ", 400) + "\n",
		"one long line": "connection refused, and no end of it ",
	}
	for name, part := range parts {
		var log strings.Builder
		for i := 0; log.Len() < 10<<20; i++ {
			word := string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26), 'a' + byte(i/17576%26)})
			log.WriteString(strings.ReplaceAll(part, "@", word))
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(log.Len()))
			for b.Loop() {
				Text(log.String())
			}
		})
	}
}
