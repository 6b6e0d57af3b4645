package goenv

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// world is a readFile over a map.
func world(files map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if s, ok := files[filepath.ToSlash(path)]; ok {
			return []byte(s), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func TestTheHighestLayerWinsAndTellsWhatItHides(t *testing.T) {
	files := map[string]string{
		"/conf/go/env":   "# mine\nGOPROXY=https://user.example.com\n",
		"/goroot/go.env": "GOPROXY=https://toolchain.example.com\nGOSUMDB=sum.golang.org\n",
	}
	s := Load([]string{"GOPROXY=https://env.example.com", "GOPROXY=https://second.example.com"}, world(files), "/goroot", "/conf")
	v := s.Get("GOPROXY")
	if v.Value != "https://env.example.com" || v.Layer != Environ || v.Where != "environment" {
		t.Errorf("in force: %+v", v)
	}
	if len(v.Overridden) != 2 || v.Overridden[0].Where != "/conf/go/env:2" || v.Overridden[0].Layer != UserFile ||
		v.Overridden[1].Value != "https://toolchain.example.com" || v.Overridden[1].Layer != Toolchain {
		t.Errorf("overridden: %+v", v.Overridden)
	}
	if d := s.Default("GOPROXY"); d.Value != "https://toolchain.example.com" || d.Where != "/goroot/go.env:1" {
		t.Errorf("default: %+v", d)
	}
	if v := s.Get("GOSUMDB"); v.Value != "sum.golang.org" || v.Layer != Toolchain || len(v.Overridden) != 0 {
		t.Errorf("GOSUMDB: %+v", v)
	}
}

func TestAnEmptyVariableIsNotSetAndSaysSoWhereItMatters(t *testing.T) {
	s := Load([]string{"GOPROXY=", "GOFLAGS="}, world(map[string]string{"/conf/go/env": "GOPROXY=off\n"}), "", "/conf")
	if v := s.Get("GOPROXY"); v.Value != "off" || v.Layer != UserFile {
		t.Errorf("GOPROXY: %+v", v)
	}
	if len(s.Problems) != 1 || s.Problems[0].Name != "GOPROXY" || !strings.Contains(s.Problems[0].Error(), "/conf/go/env:1") {
		t.Errorf("problems: %v", s.Problems)
	}
}

func TestGONOPROXYAndGONOSUMDBFollowGOPRIVATE(t *testing.T) {
	s := Load([]string{"GOPRIVATE=git.corp.example", "GONOSUMDB=other.example"}, nil, "", "")
	if v := s.Get("GONOPROXY"); v.Value != "git.corp.example" || v.Layer != Default || v.Where != "follows GOPRIVATE" {
		t.Errorf("GONOPROXY: %+v", v)
	}
	if v := s.Get("GONOSUMDB"); v.Value != "other.example" || len(v.Overridden) != 1 || v.Overridden[0].Value != "git.corp.example" {
		t.Errorf("GONOSUMDB: %+v", v)
	}
}

func TestGOENVOffReadsNoFile(t *testing.T) {
	s := Load([]string{"GOENV=off"}, world(map[string]string{"/conf/go/env": "GOPROXY=off\n"}), "", "/conf")
	if v := s.Get("GOPROXY"); v.Value != "" || s.File != "" {
		t.Errorf("GOPROXY %+v from %q", v, s.File)
	}
	if v := s.Get("GOENV"); v.Value != "off" || v.Layer != Environ {
		t.Errorf("GOENV: %+v", v)
	}
}

func TestAnUnreadableFileIsAProblemAndNoFailure(t *testing.T) {
	s := Load(nil, func(path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}, "", "/conf")
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Error(), "permission denied") {
		t.Errorf("problems: %v", s.Problems)
	}
}

func TestLinesThatDoNotDoWhatTheySeemToDoAreReported(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"GOPROXY=https://a.example.com", ""},
		{"# comment", ""},
		{"   ", ""},
		{"\r", ""},
		{"GOPRIVATE", "it has no =; write NAME=VALUE"},
		{"export GOPROXY=https://u:secret@a.example.com", "write GOPROXY=VALUE"},
		{"set GOPROXY=off", "write GOPROXY=VALUE"},
		{" GOPROXY=off", "write GOPROXY=VALUE"},
		{"goproxy=off", "write GOPROXY=VALUE"},
		{"\ufeffGOPROXY=off", "write GOPROXY=VALUE"},
		{"=off", "write NAME=VALUE"},
		{"GOPROXY =off", "write GOPROXY= without a space"},
		{"GOENV=/elsewhere", "works in the environment only"},
		{"GOPROXY=off\r", "the carriage return becomes part of the value"},
		{`GOPROXY="https://u:secret@a.example.com"`, "the quotes become part"},
		{"GOPRIVATE= git.corp.example", "the spaces around it become part"},
		{"GOPRIVATE=git.corp.example # ours", "no comments behind a value"},
		{"GOPRIVATE=\xff", "is not text"},
	} {
		_, problems := parseEnvFile("env", []byte("A=1\n"+tt.line+"\nB=2"))
		if tt.want == "" {
			if len(problems) != 0 {
				t.Errorf("%q: %v", tt.line, problems)
			}
			continue
		}
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), "env:2: ") || !strings.Contains(problems[0].Error(), tt.want) {
			t.Errorf("%q: %v, want one with %q", tt.line, problems, tt.want)
		}
		for _, p := range problems {
			if strings.Contains(p.Error(), "secret") {
				t.Errorf("%q: the password shows in %q", tt.line, p)
			}
		}
	}
	_, problems := parseEnvFile("env", []byte("GOPROXY=off\nGOPROXY=direct\n"))
	if len(problems) != 1 || problems[0].Line != 2 {
		t.Errorf("set twice: %v", problems)
	}
}

// goSettings runs the real go command.
func goSettings(t *testing.T, environ []string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"env", "-json"}, Names()...)...)
	cmd.Env, cmd.Dir = environ, t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	m := make(map[string]string)
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSettingsAreWhatTheGoCommandSays(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command")
	}
	goroot := strings.TrimSpace(string(out))
	for name, tt := range map[string]struct {
		file    string
		environ []string
	}{
		"nothing set": {},
		"file":        {file: "GOPROXY=https://a.example.com|direct\nGOPRIVATE=git.corp.example\nGOAUTH=off\nGOVCS=*:git\n"},
		"environment": {file: "GOPROXY=off\nGONOSUMDB=x.example\n", environ: []string{"GOPROXY=direct", "GOPRIVATE=a.example", "GONOPROXY=b.example"}},
		"empty":       {file: "GOPROXY=\nGOSUMDB=\nGOAUTH=\nGOPRIVATE=p.example\nGONOPROXY=\n", environ: []string{"GOPRIVATE="}},
		"off":         {file: "GOPROXY=off\n", environ: []string{"GOENV=off"}},
		"bad lines":   {file: "# c\n\nexport GOPROXY=a\n GOPROXY=b\ngoproxy=c\nGOPROXY =d\nno equals\n=x\nGOSUMDB=\"off\"\r\nGOINSECURE=a # b\nGOVCS=1=2"},
		"twice":       {file: "GOPROXY=https://a.example\nGOPROXY=https://b.example\n"},
		"paths":       {file: "GOPATH=/one:/two\nGOENV=/nowhere\n", environ: []string{"GOFLAGS=-modcacherw"}},
		"cache":       {environ: []string{"GOMODCACHE=/cache", "GO111MODULE=on", "GOINSECURE=*.corp.example"}},
		"named file":  {file: "GOPROXY=off\n", environ: []string{"GOENV=/nonexistent/env"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			conf := filepath.Join(home, "config")
			for name, text := range map[string]string{
				"env": tt.file,
				// Without it a child of go env would still write when the test ends.
				"telemetry/mode": "off",
			} {
				file := filepath.Join(conf, "go", name)
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			environ := append([]string{
				"HOME=" + home, "XDG_CONFIG_HOME=" + conf, "PATH=" + os.Getenv("PATH"), "GOTOOLCHAIN=local", "GOCACHE=" + filepath.Join(home, "cache"),
			}, tt.environ...)
			s := Load(environ, os.ReadFile, goroot, conf)
			for name, want := range goSettings(t, environ) {
				got := s.Get(name).Value
				if name == "GOENV" && got == "off" {
					got = "" // as documented
				}
				if got != want {
					t.Errorf("%s = %q, the go command says %q", name, got, want)
				}
			}
		})
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add("GOPROXY=off\n# c\nexport A=b\n=\nA =b\r\n\"\nB=\"x\"")
	f.Fuzz(func(t *testing.T, data string) {
		s := Load([]string{"GOENV=/env"}, world(map[string]string{"/env": data}), "", "")
		for _, name := range Names() {
			v := s.Get(name)
			if v.Layer == UserFile && !strings.Contains("\n"+data+"\n", "\n"+name+"="+v.Value+"\n") {
				t.Errorf("%s = %q stands nowhere in %q", name, v.Value, data)
			}
		}
		for _, p := range s.Problems {
			if msg := p.Error(); strings.Contains(msg, "\n") {
				t.Errorf("%q is more than one line", msg)
			}
		}
	})
}
