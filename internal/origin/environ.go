package origin

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/module"
)

// passedNames is what a job's commands see of the process environment.
var passedNames = []string{
	"PATH",
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
	"SSH_AUTH_SOCK", "GODEBUG",
}

// On Windows no program runs, no name resolves and no socket opens without these.
var passedWindows = []string{
	"SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "ProgramData", "ProgramFiles", "ProgramFiles(x86)",
	"CommonProgramFiles", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
}

// passed is the part of environ that every command of a job sees, with all
// that programs write by themselves turned towards home.
func passed(environ []string, home string) []string {
	names := passedNames
	if runtime.GOOS == "windows" {
		names = append(names[:len(names):len(names)], passedWindows...)
	}
	var env []string
	for _, name := range names {
		if v := getenv(environ, name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	if f := getenv(environ, "SSL_CERT_FILE"); f != "" && getenv(environ, "GIT_SSL_CAINFO") == "" {
		env = append(env, "GIT_SSL_CAINFO="+f)
	}
	in := func(sub string) string { return filepath.Join(home, sub) }
	return append(env,
		"HOME="+in("home"), "USERPROFILE="+in("home"), "AppData="+in("home"), "LocalAppData="+in("home"), "XDG_CONFIG_HOME="+in("home"),
		"TMPDIR="+in("tmp"), "TMP="+in("tmp"), "TEMP="+in("tmp"),
		"GOPATH="+in("path"), "GOMODCACHE="+in("mod"), "GOCACHE="+in("cache"),
		"GOENV=off", "GOTOOLCHAIN=local", "GOWORK=off", "GO111MODULE=on",
		"LC_ALL=C", "LANG=C", // the words that classify looks for
	)
}

// environ is the whole environment of a job about the module path.
//
// The go command verifies nothing: we do that ourselves, with everything that
// comes from anywhere. It must not ask another proxy, or the modules' answers
// would be that proxy's. Git and ssh ask nobody anything, run no hooks, and
// speak no protocol that does not prove who the server is, unless GOINSECURE
// says so for this module.
func (o *Origin) environ(dir, path string) []string {
	protocols := "https:ssh:git+ssh"
	if module.MatchPrefixPatterns(o.cfg.Insecure, path) {
		protocols += ":http:git"
	}
	return append(passed(o.cfg.Environ, dir),
		"GOFLAGS=-modcacherw", "GOPROXY=direct", "GONOPROXY=none", "GOSUMDB=off", "GONOSUMDB=*",
		"GOPRIVATE="+o.cfg.Private, "GOVCS="+o.cfg.VCS, "GOINSECURE="+o.cfg.Insecure, "GOAUTH=netrc",
		fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)), // ours may come from a container's limit; the host's count would not fit in it
		"GIT_ALLOW_PROTOCOL="+protocols,
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_ASKPASS_REQUIRE=never", "GCM_INTERACTIVE=never",
		"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oControlMaster=no -oControlPath=none",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0",
		"HGPLAIN=1", "HGRCPATH=",
	)
}

// gitConfig is what Git reads in place of the user's and the machine's settings.
//
// Old repositories have objects that today's Git would not make; those are let
// through, since a module's bytes are checked anyway, while what could lead
// Git itself astray is not.
func gitConfig() string {
	threads := runtime.GOMAXPROCS(0)
	var b strings.Builder
	fmt.Fprintf(&b, "[core]\n\thooksPath = %s\n\tfsmonitor = false\n\taskPass =\n\tdeltaBaseCacheLimit = 64m\n\tbigFileThreshold = 64m\n", filepath.ToSlash(os.DevNull))
	b.WriteString("[safe]\n\tbareRepository = explicit\n")
	b.WriteString("[init]\n\ttemplateDir =\n\tdefaultBranch = main\n")
	b.WriteString("[credential]\n\thelper =\n")
	b.WriteString("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n") // they would outlive the job, in a session of their own
	fmt.Fprintf(&b, "[pack]\n\tthreads = %d\n\twindowMemory = %dm\n[fetch]\n\tparallel = 1\n", threads, max(16, 256/threads))
	b.WriteString("[submodule]\n\trecurse = false\n")
	b.WriteString("[http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 60\n") // a server at work sends a sign of life every few seconds
	b.WriteString("[transfer]\n\tfsckObjects = true\n[fetch \"fsck\"]\n")
	for _, id := range []string{
		"badDate", "badDateOverflow", "badEmail", "badFilemode", "badName", "badTimezone", "emptyName",
		"missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate", "missingSpaceBeforeEmail",
		"missingTaggerEntry", "multipleAuthors", "nulInCommit", "zeroPaddedDate", "zeroPaddedFilemode",
	} {
		fmt.Fprintf(&b, "\t%s = ignore\n", id)
	}
	return b.String()
}

// furnish fills a job's directory with what its commands expect to find.
func (o *Origin) furnish(dir string) error {
	home := filepath.Join(dir, "home")
	for _, sub := range []string{"home", "tmp", "path", "cache", "work", "mod/cache"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{
		"home/.gitconfig": gitConfig(),
		// The go command looks for a go.mod upwards; without this one it would
		// find that of a project that sluice keeps its data in. No request can
		// name this module, whose path has no dot.
		"work/go.mod": "module job\n\ngo 1.21\n",
		// Without a mode, the go command starts a process that looks for
		// telemetry to upload, and outlives it.
		"home/go/telemetry/mode": "off 2024-01-01",
	}
	if runtime.GOOS == "darwin" {
		files["home/Library/Application Support/go/telemetry/mode"] = files["home/go/telemetry/mode"]
	}
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if o.cfg.Netrc == "" {
		return nil
	}
	// A link, so that the secrets are nowhere but where they belong.
	netrc, err := filepath.Abs(o.cfg.Netrc)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" {
		return os.Symlink(netrc, filepath.Join(home, ".netrc"))
	}
	data, err := os.ReadFile(netrc)
	if err != nil {
		return err
	}
	return cmp.Or(os.WriteFile(filepath.Join(home, ".netrc"), data, 0o600), os.WriteFile(filepath.Join(home, "_netrc"), data, 0o600))
}
