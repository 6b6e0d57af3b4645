package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// A scene is a world with a source at the name "source" and a checksum database at
// "sums", and all that is asked of the network.
type scene struct {
	t      *testing.T
	world  *modtest.World
	db     *modtest.SumDB
	fault  faults.Switch
	source *modtest.Server
	sums   *modtest.Server
	chain  string // GOPROXY; SOURCE and SUMS stand for addresses
	env    []string
	mod    module.Version
	roots  *x509.CertPool
	time   time.Time // that certificates are checked by; zero is now
	way    func(*http.Request) (*url.URL, error)
	// resolver looks names up in place of the scene.
	resolver upstream.Resolver

	mu    sync.Mutex // guards the following
	hosts map[string]bool
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, world: modtest.New(t), hosts: map[string]bool{}, chain: "SOURCE"}
	s.mod = s.world.Add("doctor.test/m", "v1.0.0", nil)
	s.db = s.world.SumDB("sums")
	s.world.Mount(s.db)
	s.source = modtest.Serve(t, faults.Handler(s.world.Handler(), s.fault.Pick))
	s.sums = modtest.Serve(t, s.db)
	return s
}

// LookupNetIP knows the two names.
func (s *scene) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host] = true
	if host == "source" || host == "sums" || host == "lied.example.com" || host == "$(reboot)" {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// remote asks for a checksum database below a source. It implements checksum.Remote.
type remote struct {
	src    *upstream.HTTPSource
	prefix string
	mirror bool
}

func (r remote) Name() string { return r.src.Name() }
func (r remote) Mirror() bool { return r.mirror }
func (r remote) Get(ctx context.Context, path string) ([]byte, error) {
	a, err := r.src.GetPath(ctx, r.prefix+path)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	return io.ReadAll(a.Body)
}

// named is the address of a server under a name.
func named(name string, srv *modtest.Server) string {
	scheme, _, _ := strings.Cut(srv.URL, ":")
	_, port, _ := net.SplitHostPort(srv.Addr)
	return scheme + "://" + net.JoinHostPort(name, port)
}

func (s *scene) subject() *Subject {
	s.t.Helper()
	home := s.t.TempDir()
	chain := strings.NewReplacer("SOURCE", named("source", s.source), "LIED", named("lied.example.com", s.source), "PUBLIC", named("proxy.example.com", s.source), "OTHER", named("other.example.com", s.source), "SHORT", named("goproxy", s.source), "DEAD", "http://127.0.0.1:1").Replace(s.chain)
	settings := goenv.Load(append(slices.Clone(s.env), "HOME="+home, "USERPROFILE="+home, "GOPROXY="+chain, "GOMODCACHE="+filepath.Join(home, "mod")), nil, "", "")
	sub := &Subject{
		Settings: settings, Getenv: func(string) string { return "" }, Place: finding.Terminal, Module: s.mod, HasGo: true, HasGit: true, Project: "go.mod",
		Required: []string{s.mod.Path}, GoVersion: func(context.Context) (string, error) { return "go1.99", nil },
		Limits: Limits{Lookup: time.Minute, Answer: time.Minute}, Notes: &Notebook{},
		NoProxy: goenv.Patterns(settings.Get("GONOPROXY").Value), NoSumDB: goenv.Patterns(settings.Get("GONOSUMDB").Value),
	}
	c := upstream.NetConfig{
		Connect: time.Minute, Timeout: time.Minute, Resolver: s, Wrap: sub.Notes.Wrap, Named: []string{"source:1"}, TLS: &tls.Config{RootCAs: s.roots},
		Proxy: func(r *http.Request) (*url.URL, error) {
			if s.way != nil {
				return s.way(r)
			}
			return nil, nil
		},
	}
	if !s.time.IsZero() {
		c.TLS.Time = func() time.Time { return s.time }
	}
	if s.resolver != nil {
		c.Resolver = s.resolver
	}
	n := upstream.NewNet(c)
	s.t.Cleanup(n.Close)
	list, err := goenv.ParseProxyList(chain)
	if err != nil {
		list = nil
	}
	for _, e := range list {
		src := Source{Entry: e}
		if e.Kind == goenv.HTTP {
			src.URL, _ = url.Parse(e.URL)
			hs := upstream.NewHTTPSource(n, src.URL)
			src.Net, src.From, src.Sums = n, hs, remote{hs, "sumdb/sums", true}
		}
		sub.Sources = append(sub.Sources, src)
	}
	if settings.Get("GOSUMDB").Value != "off" {
		u, _ := url.Parse(named("sums", s.sums))
		sub.SumDB = &SumDB{Name: "sums", Key: s.db.VKey, Net: n, URL: u, Direct: remote{src: upstream.NewHTTPSource(n, u)}}
	}
	return sub
}

func (s *scene) report() Report {
	s.t.Helper()
	return Run(s.t.Context(), "", s.subject().Checks(), time.Minute)
}

// said is the verdict and the code of the first finding.
func said(r Report) string {
	if len(r.Findings) == 0 {
		return string(r.Verdict)
	}
	return string(r.Verdict) + " " + string(r.Findings[0].Code)
}

func (s *scene) want(want string) Report {
	s.t.Helper()
	r := s.report()
	if said(r) != want {
		s.t.Errorf("%s, want %s, in\n%s", said(r), want, r.Text(TextOptions{All: true}))
	}
	return r
}

func TestWhatIsWellGetsNoWarningAndNobodyElseIsAsked(t *testing.T) {
	for name, tt := range map[string]struct {
		set   func(*scene)
		hosts []string
	}{
		"a source":                                       {func(*scene) {}, []string{"source"}},
		"one without the checksum database":              {func(s *scene) { s.noMirror() }, []string{"source", "sums"}},
		"a source and direct":                            {func(s *scene) { s.chain = "SOURCE,direct" }, []string{"source"}},
		"verified by nobody, for it is private":          {func(s *scene) { s.env = []string{"GONOSUMDB=doctor.test"} }, []string{"source"}},
		"a name that leads into this machine, and works": {func(s *scene) { s.chain = "LIED" }, []string{"lied.example.com"}},
		"no module to ask for":                           {func(s *scene) { s.mod = module.Version{} }, []string{"source"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			r := s.want("well")
			for _, row := range r.Rows {
				if row.State != OK && row.State != NA {
					t.Errorf("%s is %s: %s", row.ID, row.State, row.Text)
				}
			}
			s.mu.Lock() // a dial that nobody waits for any more may still ask
			hosts := slices.Sorted(maps.Keys(s.hosts))
			s.mu.Unlock()
			if !slices.Equal(hosts, tt.hosts) {
				t.Errorf("it asked %q, want %q", hosts, tt.hosts)
			}
		})
	}
}

func TestThatModulesComeIsSaidOnlyWhereOneCame(t *testing.T) {
	s := newScene(t)
	s.chain, s.mod = "DEAD|SOURCE", module.Version{}
	r := s.want("impaired SL-NET-002")
	for _, row := range r.Rows {
		if row.ID == "supply.modules" && row.State != NA {
			t.Errorf("it is %s: %s", row.State, row.Text)
		}
	}
}

func parse(t *testing.T, name string) faults.Fault {
	t.Helper()
	f, err := faults.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheFirstFindingIsWhatWasPlanted(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*scene)
		want string
	}{
		{"the source is down", func(s *scene) { s.source.Stop() }, "broken SL-NET-002"},
		{"and the database too", func(s *scene) { s.source.Stop(); s.sums.Stop() }, "broken SL-NET-002"},
		{"the name does not exist", func(s *scene) { s.chain = "http://nosuch.example.com" }, "broken SL-DNS-001"},
		{"the resolver lies", func(s *scene) { s.chain = "LIED"; s.source.Stop() }, "broken SL-DNS-003"},
		{"the list has no sense", func(s *scene) { s.chain = "proxy example com" }, "broken SL-ENV-003"},
		{"a colon is missing", func(s *scene) { s.chain = "https//proxy.example.com" }, "broken SL-ENV-003"},
		{"nothing may be downloaded", func(s *scene) { s.chain = "off" }, "broken SL-OFF-001"},
		{"the forward proxy is down", func(s *scene) {
			s.way = func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
		}, "broken SL-FWD-002"},
		{"the database is down and the source has none", func(s *scene) { s.noMirror(); s.sums.Stop() }, "broken SL-SUM-003"},
		{"the key is another one than the database signs with", func(s *scene) { s.db.VKey = modtest.New(t).SumDB("sums").VKey }, "broken SL-SUM-006"},
		{"the module is unknown", func(s *scene) { s.mod.Version = "v9.9.9" }, "broken SL-SRC-001"},
		{"it is unknown, and direct comes next", func(s *scene) { s.mod.Version = "v9.9.9"; s.chain = "SOURCE,direct" }, "impaired SL-SRC-001"},
		{"the clock is slow", func(s *scene) { s.source.Stop(); s.clock(time.Hour) }, "impaired SL-TLS-005"},
		{"a dead source before a good one", func(s *scene) { s.chain = "DEAD|SOURCE" }, "impaired SL-NET-002"},
		{"a dead source behind a good one", func(s *scene) { s.chain = "SOURCE,DEAD" }, "impaired SL-NET-002"},
		{"a dead source at which the go command stops", func(s *scene) { s.chain = "DEAD,SOURCE" }, "broken SL-NET-002"},
		{"verification is off", func(s *scene) { s.env = []string{"GOSUMDB=off"} }, "impaired SL-ENV-005"},
		{"everything is private", func(s *scene) { s.env = []string{"GONOSUMDB=*"} }, "impaired SL-ENV-005"},
		{"the module cache is no absolute path", func(s *scene) { s.env = []string{"GOMODCACHE=relative"} }, "broken SL-DISK-002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			s.want(tt.want)
		})
	}
	for fault, want := range map[string]string{
		"401": "broken SL-SRC-002", "403": "broken SL-SRC-003", "407": "broken SL-FWD-001", "429": "broken SL-SRC-004", "500": "broken SL-SRC-005", "503": "broken SL-SRC-005",
		"html": "broken SL-SRC-007", "login-redirect": "broken SL-SRC-007", "empty": "broken SL-SRC-009", "reset": "broken SL-NET-003", "redirect-loop": "broken SL-SRC-011",
		"wrong-info": "broken SL-SRC-008", "wrong-mod": "broken SL-SUM-008", "noise": "broken SL-SRC-008", "garbage": "broken SL-NET-003",
		"redirect=http://source:1/": "broken SL-NET-002", "404-html": "broken SL-SRC-001",
	} {
		t.Run(fault, func(t *testing.T) {
			s := newScene(t)
			s.fault.Set(parse(t, fault))
			s.want(want)
		})
	}
}

func TestARefusalNamesTheFileAndAsksForIt(t *testing.T) {
	for _, tt := range []struct {
		end, path string // of the file, and how the finding has it
		want      string
	}{
		{"/list", "doctor.test/m/@v/list", "impaired SL-SRC-003"},
		{".info", "doctor.test/m/@v/v1.0.0.info", "broken SL-SRC-003"},
		{".zip", "doctor.test/!up/@v/v1.0.0.zip", "broken SL-SRC-003"},
		{"/supported", "sumdb/sums/supported", "broken SL-SRC-003"},
	} {
		s := newScene(t)
		switch {
		case strings.Contains(tt.path, "!"):
			s.mod = s.world.Add("doctor.test/Up", "v1.0.0", nil)
		case strings.HasPrefix(tt.path, "sumdb/"):
			s.mod = module.Version{}
		}
		h := s.world.Handler()
		s.source.Stop()
		s.source = modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, tt.end) {
				http.Error(w, "not this one", http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		}))
		sub := s.subject()
		r := Run(t.Context(), "", sub.Checks(), time.Minute)
		if said(r) != tt.want {
			t.Errorf("%s: %s, want %s, in\n%s", tt.end, said(r), tt.want, r.Text(TextOptions{All: true}))
			continue
		}
		at := "'" + named("source", s.source) + "/" + tt.path + "'"
		f := r.Findings[0]
		if !slices.Equal(f.Commands, []string{"curl -sIL " + at}) || !strings.HasPrefix(f.Evidence[0], tt.path+": 403 Forbidden") {
			t.Errorf("%s: %q by %q, want %s", tt.end, f.Evidence, f.Commands, at)
		}
	}
}

func TestAnAddressThatHasNothingAtAllMayBeNoModuleProxy(t *testing.T) {
	nothing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	for _, tt := range []struct {
		name, chain string
		proxy       bool // it has the checksum database, and not the module
		want        string
		wrong       bool
	}{
		{"a web server that is no proxy", "SOURCE", false, "broken SL-SRC-001", true},
		{"one before direct", "SOURCE,direct", false, "impaired SL-SRC-001", true},
		{"one before off", "SOURCE,off", false, "broken SL-SRC-001", true},
		{"a proxy that lacks the module", "SOURCE", true, "broken SL-SRC-001", false},
		{"and one that is none", "SOURCE,SUMS", true, "broken SL-SRC-001", false},
	} {
		s := newScene(t)
		s.mod.Path = "doctor.test/nosuch"
		s.chain = tt.chain
		if !tt.proxy {
			s.source.Stop()
			s.source = modtest.Serve(t, nothing)
		}
		s.chain = strings.ReplaceAll(s.chain, "SUMS", named("source", modtest.Serve(t, nothing)))
		r := s.want(tt.want)
		f := r.Findings[0]
		text := strings.Join(f.Commands, "\n")
		at := "curl -si '" + named("source", s.source) + "/doctor.test/nosuch/@v/list'"
		wrong := strings.Contains(f.Fix, "see whether "+named("source", s.source)+" is the address of a module proxy") && text == at && f.Confidence == finding.Medium
		right := text == "go env -w GOPRIVATE=doctor.test/nosuch" && f.Confidence == finding.High
		if tt.wrong && !wrong || !tt.wrong && !right {
			t.Errorf("%s: %s %q, %s", tt.name, f.Fix, f.Commands, f.Confidence)
		}
	}
}

// noMirror takes the checksum database away from the source.
func (s *scene) noMirror() {
	s.source.Stop()
	h := s.world.Handler()
	s.source = modtest.Serve(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sumdb/") {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

// clock makes the servers say a time that is ahead.
func (s *scene) clock(ahead time.Duration) {
	h := s.world.Handler()
	s.source = modtest.Serve(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	}))
}

func TestNoCommandToPasteHasAHostThatAShellWouldRun(t *testing.T) {
	for _, way := range []string{"", "http://127.0.0.1:1"} {
		s := newScene(t)
		s.chain = "http://$(reboot):1"
		if way != "" {
			s.way = func(*http.Request) (*url.URL, error) { return url.Parse(way) }
		}
		r := s.report()
		if r.Verdict != Broken {
			t.Errorf("%s", r.Text(TextOptions{All: true}))
		}
		for _, f := range r.Findings {
			for _, cmd := range f.Commands {
				if strings.Contains(cmd, "$(reboot") {
					t.Errorf("%s: %s", f.Code, cmd)
				}
			}
		}
	}
}

// A host of one's own network, which the forward proxy cannot know, is sent to it.
func TestAHostThatNO_PROXYLacksIsNamed(t *testing.T) {
	forward := modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no such host", http.StatusBadGateway) }))
	for chain, want := range map[string]string{"http://goproxy.corp": `export NO_PROXY="$NO_PROXY,goproxy.corp"`, "http://proxy.example.com": ""} {
		s := newScene(t)
		s.chain = chain
		s.way = func(*http.Request) (*url.URL, error) { return url.Parse(forward.URL) }
		r := s.report()
		if len(r.Findings) == 0 || slices.Contains(r.Findings[0].Commands, want) != (want != "") || (want != "") != (r.Findings[0].Code == finding.ForwardProxyBroken) {
			t.Errorf("%s: %s", chain, r.Text(TextOptions{All: true}))
		}
	}
}

// authority makes certificates for names.
func authority(t *testing.T, name string, from, to time.Time, hosts ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{name}}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: hosts}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// overTLS serves the source, and with both the database, with a certificate.
func (s *scene) overTLS(cert tls.Certificate, both bool) {
	serve := func(h http.Handler) *modtest.Server {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			s.t.Fatal(err)
		}
		srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
		done := make(chan struct{})
		go func() { defer close(done); srv.Serve(ln) }()
		s.t.Cleanup(func() { srv.Close(); <-done })
		return &modtest.Server{Addr: ln.Addr().String(), URL: "https://" + ln.Addr().String()}
	}
	s.source = serve(s.world.Handler())
	if both {
		s.sums = serve(s.db)
	}
}

func TestTroubleWithCertificatesIsToldApart(t *testing.T) {
	now := time.Now()
	hour := time.Hour
	for _, tt := range []struct {
		name string
		set  func(*scene)
		want string
		text string // in the evidence
	}{
		{"trusted", func(s *scene) {
			cert, pool := authority(t, "Good CA", now.Add(-hour), now.Add(hour), "source")
			s.overTLS(cert, false)
			s.roots = pool
		}, "well", ""},
		{"not trusted", func(s *scene) {
			cert, _ := authority(t, "Somebody", now.Add(-hour), now.Add(hour), "source")
			_, s.roots = authority(t, "Good CA", now.Add(-hour), now.Add(hour))
			s.overTLS(cert, false)
		}, "broken SL-TLS-001", `signed by "Somebody"`},
		{"replaced on the way", func(s *scene) {
			cert, _ := authority(t, "ACME Inspection", now.Add(-hour), now.Add(hour), "source", "sums")
			_, s.roots = authority(t, "Good CA", now.Add(-hour), now.Add(hour))
			s.overTLS(cert, true)
		}, "broken SL-TLS-001", `"ACME Inspection", which is not trusted here, signed the certificates of source and sums`},
		{"a lie of the resolver, and somebody else there", func(s *scene) {
			cert, _ := authority(t, "Somebody", now.Add(-hour), now.Add(hour), "portal.example.com")
			_, s.roots = authority(t, "Good CA", now.Add(-hour), now.Add(hour))
			s.chain = "LIED"
			s.overTLS(cert, false)
		}, "broken SL-DNS-003", "the name leads to 127.0.0.1, which cannot be its own"},
		{"another name", func(s *scene) {
			cert, pool := authority(t, "Good CA", now.Add(-hour), now.Add(hour), "other.example.com")
			s.overTLS(cert, false)
			s.roots = pool
		}, "broken SL-TLS-003", "other.example.com"},
		{"expired", func(s *scene) {
			cert, pool := authority(t, "Good CA", now.Add(-2*hour), now.Add(-hour), "source")
			s.overTLS(cert, false)
			s.roots = pool
		}, "broken SL-TLS-002", "the clock here says"},
		{"no TLS there", func(s *scene) {
			s.source.URL = strings.Replace(s.source.URL, "http:", "https:", 1)
		}, "broken SL-TLS-004", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			tt.set(s)
			r := s.want(tt.want)
			if tt.text != "" && !strings.Contains(r.Text(TextOptions{All: true}), tt.text) {
				t.Errorf("%q is missing in\n%s", tt.text, r.Text(TextOptions{All: true}))
			}
			n := 0
			for _, f := range r.Findings {
				if f.Severity == finding.Fail {
					n++
				}
			}
			if n > 1 {
				t.Errorf("one cause is %d findings in\n%s", n, r.Text(TextOptions{All: true}))
			}
		})
	}
}

func TestAProblemOfTheMachineIsFound(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*Subject)
		want string
	}{
		{"no go command", func(s *Subject) {
			s.HasGo, s.GoVersion = false, func(context.Context) (string, error) { return "", errors.New("it is not in PATH") }
		}, "impaired SL-TOOL-003"},
		{"a go command that does not take its settings", func(s *Subject) {
			s.GoVersion = func(context.Context) (string, error) { return "", errors.New("go: parsing $GOFLAGS") }
		}, "broken SL-ENV-003"},
		{"no git, which nobody needs", func(s *Subject) { s.HasGit = false }, "well"},
		{"no git for a private module", func(s *Subject) { s.HasGit, s.NoProxy = false, "doctor.test" }, "broken SL-VCS-001"},
		{"a go.mod that cannot be read", func(s *Subject) { s.ProjectErr = errors.New("go.mod:3: unknown directive") }, "broken SL-MOD-004"},
		{"a go.mod with a version that does not fit its path", func(s *Subject) {
			_, s.ProjectErr = modfile.Parse("go.mod", []byte("module a\n\nrequire doctor.test/m v2.0.0\n"), nil)
		}, "broken SL-VER-003"},
		{"a clock before the program was built", func(s *Subject) { s.Built = time.Now().Add(72 * time.Hour) }, "impaired SL-TLS-005"},
		{"a configuration with a mistake", func(s *Subject) { s.Mistakes = []error{errors.New("listen: no")} }, "broken SL-ENV-002"},
		{"a forward proxy that is none", func(s *Subject) { s.Getenv = env("HTTPS_PROXY", "http://[::1") }, "broken SL-FWD-002"},
		{"a file in the place of the module cache", func(s *Subject) {
			s.Settings = goenv.Load([]string{"GOPROXY=" + s.Settings.Get("GOPROXY").Value, "GOMODCACHE=" + filepath.Join("/", "dev", "null", "mod")}, nil, "", "")
		}, "broken SL-DISK-002"},
		{"a variable that hides what was written", func(s *Subject) {
			s.Settings = goenv.Load([]string{"GOPROXY=" + s.Settings.Get("GOPROXY").Value, "GOMODCACHE=" + s.Settings.Get("GOMODCACHE").Value, "GOENV=env", "HOME=" + s.Settings.Get("HOME").Value},
				func(string) ([]byte, error) { return []byte("GOPROXY=https://proxy.example.com\n"), nil }, "", "")
		}, "impaired SL-ENV-004"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			sub := s.subject()
			tt.set(sub)
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			if said(r) != tt.want {
				t.Errorf("%s, want %s, in\n%s", said(r), tt.want, r.Text(TextOptions{All: true}))
			}
		})
	}
}

func env(name, value string) func(string) string {
	return func(n string) string {
		if n == name {
			return value
		}
		return ""
	}
}

func TestAZipInTheCacheIsHeldAgainstWhatItWasAndAgainstGoSum(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(s *scene, sub *Subject, zip string)
		want string
	}{
		{"as it came", func(*scene, *Subject, string) {}, "well"},
		{"go.sum does not know it", func(_ *scene, sub *Subject, _ string) { sub.Sums = nil }, "well"},
		{"nothing there", func(_ *scene, _ *Subject, zip string) { os.Remove(zip) }, "well"},
		{"cut", func(_ *scene, _ *Subject, zip string) { os.Truncate(zip, 100) }, "broken SL-DISK-003"},
		{"another zip", func(s *scene, _ *Subject, zip string) {
			other := s.world.Add("doctor.test/m", "v1.0.1", modtest.Files{"x.go": "package x\n"})
			os.WriteFile(zip, s.world.Zip(other), 0o644)
		}, "broken SL-DISK-003"},
		{"an extracted file that somebody has changed", func(s *scene, sub *Subject, _ string) {
			os.MkdirAll(filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "doctor.test", "m@v1.0.0"), 0o755)
			os.WriteFile(filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "doctor.test", "m@v1.0.0", "mine.go"), []byte("package m\n"), 0o644)
		}, "broken SL-DISK-003"},
		{"a lock that cannot be taken", func(_ *scene, _ *Subject, zip string) { os.Mkdir(strings.TrimSuffix(zip, "zip")+"lock", 0o755) }, "broken SL-DISK-003"},
		{"a download broken off", func(_ *scene, _ *Subject, zip string) { os.WriteFile(zip+"123.tmp", nil, 0o644) }, "well"},
		{"extracting broken off, which mends itself", func(_ *scene, sub *Subject, zip string) {
			os.MkdirAll(filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "doctor.test", "m@v1.0.0"), 0o755)
			os.WriteFile(strings.TrimSuffix(zip, "zip")+"partial", nil, 0o644)
		}, "impaired SL-DISK-003"},
		{"another than in go.sum", func(s *scene, sub *Subject, _ string) { sub.Sums[s.mod] = "h1:AAAA" }, "broken SL-SUM-007"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			sub := s.subject()
			sub.Selected, sub.Sums = []module.Version{s.mod}, map[module.Version]string{s.mod: s.world.H1Zip(s.mod)}
			zip := filepath.Join(sub.Settings.Get("GOMODCACHE").Value, "cache", "download", "doctor.test", "m", "@v", "v1.0.0.zip")
			for name, data := range map[string]string{zip: string(s.world.Zip(s.mod)), zip + "hash": s.world.H1Zip(s.mod)} {
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(data), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			tt.set(s, sub, zip)
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			if said(r) != tt.want {
				t.Errorf("%s, want %s, in\n%s", said(r), tt.want, r.Text(TextOptions{All: true}))
			}
			if tt.want == "broken SL-DISK-003" && !slices.Equal(r.Findings[0].Commands, []string{"sluice rescue --cache"}) {
				t.Errorf("the fix is %q", r.Findings[0].Commands)
			}
		})
	}
}
