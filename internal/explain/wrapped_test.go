package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// each is s with f applied to its lines.
func each(s string, f func(i int, line string) string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = f(i, l)
	}
	return strings.Join(lines, "\n") + "\n"
}

// wrappers are what CI systems and people do to a text.
var wrappers = map[string]func(string) string{
	"GitHub Actions": func(s string) string {
		return "2024-05-06T07:08:08.0000000Z ##[group]Run go build ./...\n2024-05-06T07:08:08.0000001Z \x1b[36;1mgo build ./...\x1b[0m\n2024-05-06T07:08:08.0000002Z shell: /usr/bin/bash -e {0}\n2024-05-06T07:08:08.1Z ##[endgroup]\n" +
			each(s, func(i int, l string) string { return fmt.Sprintf("2024-05-06T07:08:%02d.1234567Z %s", 9+i%50, l) }) +
			"2024-05-06T07:09:10.1234567Z ##[error]Process completed with exit code 1.\n"
	},
	"GitHub annotations": func(s string) string {
		return each(s, func(i int, l string) string {
			if i == 0 {
				return "Error: " + l
			}
			return l
		}) + "Error: Process completed with exit code 1.\n"
	},
	"GitLab CI": func(s string) string {
		return "\x1b[0KRunning with gitlab-runner 16.0.0\n\x1b[0;msection_start:1714979288:step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\n\x1b[32;1m$ go build ./...\x1b[0;m\n" + s +
			"section_end:1714979299:step_script\r\x1b[0K\x1b[31;1mERROR: Job failed: exit code 1\n\x1b[0;m\n"
	},
	"GitLab CI with time stamps": func(s string) string {
		return each(s, func(i int, l string) string { return "2024-05-06T07:08:09.123456Z 01O " + l })
	},
	"BuildKit": func(s string) string {
		return "#11 [builder 4/6] RUN go mod download\n" + each(s, func(i int, l string) string { return fmt.Sprintf("#11 %d.%03d %s", i+3, 417, l) }) +
			"#11 ERROR: process \"/bin/sh -c go mod download\" did not complete successfully: exit code: 1\n------\n > [builder 4/6] RUN go mod download:\n"
	},
	"BuildKit's summary": func(s string) string {
		return "------\n > [builder 4/6] RUN go mod download:\n" + each(s, func(i int, l string) string { return "21.90 " + l }) +
			"------\nDockerfile:12\n--------------------\n  10 |     COPY go.mod go.sum ./\n  12 | >>> RUN go mod download\n--------------------\nERROR: failed to solve: process \"/bin/sh -c go mod download\" did not complete successfully: exit code: 1\n"
	},
	"docker build": func(s string) string {
		return "Step 5/9 : RUN go mod download\n ---> Running in 998b967d3809\n" + s + "The command '/bin/sh -c go mod download' returned a non-zero code: 1\n"
	},
	"docker compose": func(s string) string {
		return each(s, func(i int, l string) string { return "app-1       | " + l })
	},
	"Jenkins": func(s string) string {
		return "[Pipeline] sh\n+ go build ./...\n" + each(s, func(i int, l string) string { return "[2024-05-06T07:08:09.123Z] " + l }) + "[Pipeline] }\nERROR: script returned exit code 1\nFinished: FAILURE\n"
	},
	"Kubernetes": func(s string) string {
		return each(s, func(i int, l string) string { return "2024-05-06T07:08:09.123456789Z stderr F " + l })
	},
	"JSON lines": func(s string) string {
		return each(s, func(i int, l string) string {
			b, _ := json.Marshal(map[string]string{"log": l + "\n", "stream": "stderr", "time": "2024-05-06T07:08:09Z"})
			return string(b)
		})
	},
	"one JSON line": func(s string) string {
		b, _ := json.Marshal(map[string]string{"level": "error", "msg": s})
		return string(b) + "\n"
	},
	"Azure": func(s string) string {
		return each(s, func(i int, l string) string {
			if i == 0 {
				return "2024-05-06T07:08:09.1234567Z ##[error]" + l
			}
			return "2024-05-06T07:08:09.1234567Z " + l
		}) + "##[error]Bash exited with code '1'.\n"
	},
	"a quoted mail": func(s string) string {
		return "On Monday somebody wrote:\n" + each(s, func(i int, l string) string { return "> " + l })
	},
	"UTF-16 with CR LF": func(s string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune("\ufeff" + strings.ReplaceAll(s, "\n", "\r\n"))) {
			b = append(b, byte(u), byte(u>>8))
		}
		return string(b)
	},
	"colours": func(s string) string {
		return each(s, func(i int, l string) string { return "\x1b[1m\x1b[31m" + l + "\x1b[0m\x1b[K" })
	},
	"make": func(s string) string {
		return "go build -o bin/app ./cmd/app\n" + s + "make: *** [Makefile:12: build] Error 1\n"
	},
	"downloads before": func(s string) string {
		return strings.Repeat("go: downloading github.com/x/y v1.2.3\ngo: finding module for package github.com/x/z\n", 40) + s
	},
	"100 columns": func(s string) string {
		return each(s, func(i int, l string) string {
			r := []rune(l)
			var parts []string
			for len(r) > 100 {
				parts = append(parts, string(r[:100]))
				r = r[100:]
			}
			return strings.Join(append(parts, string(r)), "\n")
		})
	},
	"words wrapped at 100 columns": func(s string) string {
		return each(s, func(i int, l string) string {
			out, n := "", 0
			for j, w := range strings.Split(l, " ") {
				switch {
				case j > 0 && n+1+len([]rune(w)) > 100:
					out, n = out+"\n", 0
				case j > 0:
					out, n = out+" ", n+1
				}
				out, n = out+w, n+len([]rune(w))
			}
			return out
		})
	},
}

func TestACauseIsTheSameWhateverIsAroundIt(t *testing.T) {
	all := messages(t)
	for name, wrap := range wrappers {
		var wrong []string
		for _, m := range all {
			if got := Text(wrap(m.Log)); string(got.Cause) != m.Cause {
				wrong = append(wrong, fmt.Sprintf("%s in %s: %q by line %d %q", m.ID, name, got.Cause, got.Number, got.Line))
			}
		}
		// Of a single break nobody can tell whether a space was there.
		if strings.HasSuffix(name, "columns") && len(wrong)*100 < len(all) {
			continue
		}
		for _, w := range wrong {
			t.Error(w)
		}
	}
}

func TestLabelledOutputsKeepTheirCauseInCI(t *testing.T) {
	for name, wrap := range wrappers {
		for _, r := range devRecords(t) {
			if strings.HasPrefix(name, "words") && slices.ContainsFunc(strings.Fields(r.Log), func(w string) bool { return len(w) > 100 }) {
				continue // such a text has no width
			}
			plain, got := Text(r.Log), Text(wrap(strings.TrimRight(r.Log, "\n")+"\n"))
			if got.Cause != plain.Cause && !slices.Contains(append(r.AlsoOK, r.Cause), string(got.Cause)) {
				t.Errorf("%s in %s: %q by line %d %q", r.ID, name, got.Cause, got.Number, got.Line)
			}
		}
	}
}
