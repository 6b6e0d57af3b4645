package checksum_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
)

func TestTheSumsAreThoseOfTheZipAndTheGoMod(t *testing.T) {
	w := modtest.New(t)
	db := w.SumDB(dbName)
	var list []module.Version
	for i := range 20 {
		list = append(list, w.Add(fmt.Sprintf("example.com/Mod%d", i), "v1.0.0", nil))
	}
	list = append(list, w.Add("example.com/old", "v2.0.0+incompatible", nil), w.Add("example.com/Pre", "v1.0.0-RC1", nil))
	r := &remote{name: "database", h: func(_ context.Context, path string) ([]byte, error) {
		rec := httptest.NewRecorder()
		db.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code == 404 {
			return nil, missing(path)
		}
		if rec.Code != 200 {
			return nil, errDown
		}
		return rec.Body.Bytes(), nil
	}}
	d := open(t, &log{vkey: db.VKey}, newShelf(), r)
	if d.Name() != dbName {
		t.Errorf("Name() = %s", d.Name())
	}
	for _, m := range list {
		zip, gomod, err := d.Sums(t.Context(), m)
		if err != nil || zip != w.H1Zip(m) || gomod != w.H1Mod(m) {
			t.Errorf("Sums(%s) = %s, %s, %v", m, zip, gomod, err)
		}
	}
	r.asked("")
	for _, m := range list {
		if _, _, err := d.Sums(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
	if n := r.asked(""); n != 0 {
		t.Errorf("the database was asked %d times for what is cached", n)
	}
	wantErr(t, d, module.Version{Path: "example.com/none", Version: "v1.0.0"}, checksum.ErrUnknown)
	db.Down(true)
	wantErr(t, d, module.Version{Path: "example.com/other", Version: "v1.0.0"}, checksum.ErrUnreachable)
}

func TestUnknownAndUnreachableAreToldApart(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 5)...)
	unknown := module.Version{Path: "unknown.test", Version: "v1.0.0"}
	notThere := func(_ context.Context, path string) ([]byte, error) { return nil, missing(path) }
	supportedOnly := func(_ context.Context, path string) ([]byte, error) {
		if path == "/supported" {
			return nil, nil
		}
		return nil, missing(path)
	}
	type h = func(context.Context, string) ([]byte, error)
	for _, tt := range []struct {
		name             string
		mirror, database h // nil: there is none
		want             error
	}{
		{"database knows it not", nil, l.get, checksum.ErrUnknown},
		{"both know it not", l.get, l.get, checksum.ErrUnknown},
		{"mirror does not mirror", notThere, l.get, checksum.ErrUnknown},
		{"mirror is down", down, l.get, checksum.ErrUnknown},
		{"database is down", nil, down, checksum.ErrUnreachable},
		{"database is down, mirror knows it not", supportedOnly, down, checksum.ErrUnreachable},
		{"database is down, mirror does not mirror", notThere, down, checksum.ErrUnreachable},
		{"all are down", down, down, checksum.ErrUnreachable},
		{"mirror alone knows it not", supportedOnly, nil, checksum.ErrUnknown},
		{"mirror alone does not mirror", notThere, nil, checksum.ErrUnreachable},
		{"nobody", nil, nil, checksum.ErrUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var remotes []*remote
			if tt.mirror != nil {
				remotes = append(remotes, &remote{name: "mirror", mirror: true, h: tt.mirror})
			}
			if tt.database != nil {
				remotes = append(remotes, &remote{name: "database", h: tt.database})
			}
			d := open(t, l, newShelf(), remotes...)
			for range 2 {
				err := wantErr(t, d, unknown, tt.want)
				if tt.want == checksum.ErrUnknown && !strings.Contains(err.Error(), unknown.String()) {
					t.Errorf("the error does not say what is unknown: %v", err)
				}
				if tt.database != nil && fmt.Sprint(tt.want) == fmt.Sprint(checksum.ErrUnreachable) && !strings.Contains(err.Error(), "database: 503") {
					t.Errorf("the error does not say why: %v", err)
				}
			}
		})
	}
	// A proxy that does not mirror the database casts no doubt on what another says.
	d := open(t, l, newShelf(), &remote{name: "a", mirror: true, h: notThere}, &remote{name: "b", mirror: true, h: l.get})
	wantErr(t, d, unknown, checksum.ErrUnknown)
	d = open(t, l, newShelf(), direct(l))
	wantErr(t, d, module.Version{Path: "no module path", Version: "v1.0.0"}, checksum.ErrUnknown)
	wantErr(t, d, module.Version{Path: "x.test", Version: "a/b"}, checksum.ErrUnknown)
}

func TestAProxyThatDoesNotMirrorIsPassedOverAndAskedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		m := &remote{name: "mirror", mirror: true, h: func(_ context.Context, path string) ([]byte, error) {
			time.Sleep(time.Second)
			return nil, missing(path)
		}}
		d := open(t, l, newShelf(), m, direct(l))
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { hasSums(t, d, l, mod(i)) })
		}
		wg.Wait()
		if n := m.asked("/supported"); n != 1 {
			t.Errorf("asked %d times whether it mirrors the database", n)
		}
		time.Sleep(9 * time.Minute)
		hasSums(t, d, l, mod(30))
		if n := m.asked("/"); n != 0 {
			t.Errorf("asked %d times although it does not mirror the database", n)
		}
		time.Sleep(2 * time.Minute)
		m.serve(l.get)
		hasSums(t, d, l, mod(31), mod(32))
		if n := m.asked("/lookup/"); n != 2 {
			t.Errorf("it mirrors the database by now, and was asked %d times", n)
		}
	})
}

func TestAMirrorThatHangsCostsAQuarterOfASecondOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		m := &remote{name: "mirror", mirror: true, h: func(ctx context.Context, path string) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		d := open(t, l, newShelf(), m, direct(l))
		for i := range 10 {
			start := time.Now()
			hasSums(t, d, l, mod(i))
			if took := time.Since(start); i == 0 && took != 250*time.Millisecond || i > 0 && took != 0 {
				t.Errorf("lookup %d took %v", i, took)
			}
		}
		m.serve(l.get)
		time.Sleep(41 * time.Second) // what hangs is given up after ten
		m.asked("")
		hasSums(t, d, l, mod(20))
		if n := m.asked("/lookup/"); n != 1 {
			t.Errorf("a mirror that is well again is asked %d times", n)
		}
	})
}

func TestADatabaseThatHangsIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		r := &remote{name: "database", h: func(ctx context.Context, path string) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		d := open(t, l, newShelf(), r)
		start := time.Now()
		err := wantErr(t, d, mod(1), checksum.ErrUnreachable)
		if took := time.Since(start); took != 10*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// liars are answers that must not be believed.
func liars(t testing.TB, l *log) map[string]func(ctx context.Context, path string) ([]byte, error) {
	t.Helper()
	forked := l.again("fork")
	forked.add(mods(1000, 1000+int(l.size(t))+7)...)
	other := newLog(t)
	other.add(mods(0, 20)...)
	otherHash := strings.Repeat("A", 43) + "="
	tamper := func(data []byte) []byte {
		lines := bytes.SplitN(data, []byte("\n"), 3)
		i := bytes.LastIndex(lines[1], []byte("h1:"))
		lines[1] = append(lines[1][:i:i], "h1:"+otherHash...)
		return bytes.Join(lines, []byte("\n"))
	}
	return map[string]func(ctx context.Context, path string) ([]byte, error){
		"fork":                 forked.get,
		"another key":          other.get,
		"tampered record":      spoilt(l, "/lookup/", tamper),
		"tampered number":      spoilt(l, "/lookup/", func(data []byte) []byte { return append([]byte("1"), data...) }),
		"tampered signature":   spoilt(l, "/lookup/", func(data []byte) []byte { data[len(data)-8] ^= 1; return data }),
		"tampered tile":        spoilt(l, "/tile/8/0/", func(data []byte) []byte { data[0] ^= 1; return data }),
		"tampered upper tile":  spoilt(l, "/tile/8/1/", func(data []byte) []byte { data[0] ^= 1; return data }),
		"short tile":           spoilt(l, "/tile/", func(data []byte) []byte { return data[:len(data)-1] }),
		"empty tile":           spoilt(l, "/tile/", func(data []byte) []byte { return nil }),
		"page for a tile":      spoilt(l, "/tile/", func(data []byte) []byte { return []byte("<html>") }),
		"page for a record":    spoilt(l, "/lookup/", func(data []byte) []byte { return []byte("<html>\n\n<h1>log in") }),
		"nothing for a record": spoilt(l, "/lookup/", func(data []byte) []byte { return nil }),
		"too much":             spoilt(l, "/lookup/", func(data []byte) []byte { return make([]byte, 5<<20) }),
		"another record": func(ctx context.Context, path string) ([]byte, error) {
			if strings.HasPrefix(path, "/lookup/") {
				path = "/lookup/example.com/!mod3@v1.0.0"
			}
			return l.get(ctx, path)
		},
		"a record that ends like it": func(ctx context.Context, path string) ([]byte, error) {
			if p, ok := strings.CutPrefix(path, "/lookup/"); ok {
				path = "/lookup/a.test/" + p // its lines contain those asked for
			}
			return l.get(ctx, path)
		},
	}
}

// inBubble runs a subtest whose clock goes on only where all wait for it: a remote that a
// busy machine makes late would be passed over.
func inBubble(t *testing.T, name string, do func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
}

func TestALiarIsNotBelievedAndTheNextRemoteIsAsked(t *testing.T) {
	base := newLog(t)
	base.add(mods(0, 600)...)
	for name := range liars(t, base) {
		inBubble(t, name, func(t *testing.T) {
			l := base.again("")
			l.add(mods(0, 600)...)
			cache := newShelf()
			m, db := mirror(l), direct(l)
			d := open(t, l, cache, m, db)
			hasSums(t, d, l, mod(5), mod(300)) // both are honest, and the head is known
			for i, lie := 0, liars(t, l)[name]; i < 3; i++ {
				m.serve(lie)
				l.add(mods(600+3*i, 603+3*i)...) // the tree grows, so that there is something to prove
				m.asked("")
				d := open(t, l, cache, m, db) // nothing is known of the mirror yet
				hasSums(t, d, l, mod(10+i), mod(580+i), mod(601+3*i))
				if n := m.asked("/lookup/"); n == 0 {
					t.Fatal("the liar was not even asked")
				}
			}
			// Nothing of the lies is left in the cache.
			db.serve(down)
			list := []module.Version{mod(5), mod(300), mod(10), mod(580), mod(601), mod(12), mod(607)}
			verifies(t, l, "through a liar's DB", offline(t, d), list)
			verifies(t, l, "from a liar's files", cache.file, list)

			// Alone it gets nothing through.
			m.serve(liars(t, l)[name])
			for _, x := range []module.Version{mod(20), mod(400), mod(2000)} {
				zip, _, err := open(t, l, cache, m).Sums(t.Context(), x)
				if err == nil && strings.Contains(name, "tile") && zip == l.hash(x, "zip") {
					continue // the record is true, and its tiles were in the cache
				}
				if err == nil || zip != "" || !strings.Contains(err.Error(), "mirror: ") || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "html") {
					t.Errorf("Sums = %s, %v", zip, err)
				}
				if name == "too much" && !strings.Contains(err.Error(), "larger than") {
					t.Errorf("told as %v", err)
				}
				// What is no forgery, but no answer, is not called one.
				want := checksum.ErrSecurity
				for _, noise := range []string{"page", "short", "empty", "nothing", "too much"} {
					if strings.Contains(name, noise) {
						want = checksum.ErrUnreachable
					}
				}
				if !errors.Is(err, want) {
					t.Errorf("told as %v, want %v", err, want)
				}
			}
		})
	}
}

// Where the tree is known already, only the record's place in it is proven, by as
// few tiles as that takes.
func TestALiarAboutATreeThatIsKnownIsNotBelieved(t *testing.T) {
	base := newLog(t)
	base.add(mods(0, 1300)...)
	for name := range liars(t, base) {
		inBubble(t, name, func(t *testing.T) {
			l := base.again("")
			l.add(mods(0, 1300)...)
			lie := liars(t, l)[name]
			cache, m, db := newShelf(), mirror(l), direct(l)
			d := open(t, l, cache, m, db)
			hasSums(t, d, l, mod(5), mod(300), mod(301))
			m.serve(lie)
			m.asked("")
			list := []module.Version{mod(600), mod(6), mod(900), mod(1290), mod(601)}
			hasSums(t, d, l, list...)
			if n := m.asked("/lookup/"); n == 0 {
				t.Fatal("the liar was not even asked")
			}
			db.serve(down)
			verifies(t, l, "through a liar's DB", offline(t, d), append(list, mod(5), mod(300)))
			verifies(t, l, "from a liar's files", cache.file, append(list, mod(5), mod(300)))

			m.serve(l.get)
			d = open(t, l, newShelf(), m)
			hasSums(t, d, l, mod(5), mod(300))
			m.serve(lie)
			for _, x := range []module.Version{mod(610), mod(7), mod(1291), mod(910)} {
				zip, _, err := d.Sums(t.Context(), x)
				if err == nil && (!strings.Contains(name, "tile") || zip != l.hash(x, "zip")) || err != nil && zip != "" {
					t.Errorf("Sums(%s) = %s, %v", x, zip, err)
				}
			}
			if _, _, err := d.Sums(t.Context(), mod(611)); err == nil && name != "tampered upper tile" {
				t.Error("the liar is believed")
			}
		})
	}
}

// What a full disk did not take is not held for kept.
func TestATileThatCouldNotBeWrittenIsWrittenWithTheNextRecord(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 1300)...)
	cache := newShelf()
	d := open(t, l, cache, direct(l))
	hasSums(t, d, l, mod(5)) // the tree is known from here on
	cache.fail(nil, errors.New("the disk is full"))
	hasSums(t, d, l, mod(600))
	cache.fail(nil, nil)
	hasSums(t, d, l, mod(601))
	verifies(t, l, "from the files", cache.file, []module.Version{mod(5), mod(601)})
}

// A tree that was forked is proven, but in the wrong tree: none of it may be found
// in the cache when the honest tree has grown to the same width.
func TestAForkLeavesNothingInTheCache(t *testing.T) {
	l := newLog(t)
	cache := newShelf()
	m, db := mirror(l), direct(l)
	d := open(t, l, cache, m, db)
	l.add(mods(0, 250)...)
	hasSums(t, d, l, mod(3))
	forked := l.again("fork")
	forked.add(mods(0, 250)...)
	for i := range 20 {
		forked.add(mod(1000 + i))
		m.serve(forked.get)
		hasSums(t, open(t, l, cache, m, db), l, mod(7))
		for _, width := range []int{251 + i, 256} {
			if data, err := cache.file(fmt.Sprintf("/tile/8/0/000.p/%d", width)); err == nil {
				want, _ := l.get(t.Context(), fmt.Sprintf("/tile/8/0/000.p/%d", width))
				if !bytes.Equal(data, want) {
					t.Fatalf("the tile of width %d in the cache is the fork's", width)
				}
			}
		}
	}
	m.serve(down)
	for i := range 20 {
		l.add(mod(300 + i))
		hasSums(t, d, l, mod(300+i), mod(20+i))
	}
}

func TestTheHeadIsRememberedAcrossRestarts(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 300)...)
	fresh := func(n int) *log { // the same database, set back to n records
		b := l.again("")
		b.add(mods(0, n)...)
		return b
	}
	for name, tt := range map[string]struct {
		then *log
		add  []module.Version // recorded by then before the lookup
		want error            // of a module that is new to it
	}{
		"the same":                         {l, nil, nil},
		"grown":                            {fresh(300), mods(300, 700), nil},
		"forked, smaller":                  {l.again("fork"), mods(0, 200), checksum.ErrSecurity},
		"forked, as large":                 {l.again("fork"), mods(0, 300), checksum.ErrSecurity},
		"forked, larger":                   {l.again("fork"), mods(0, 800), checksum.ErrSecurity},
		"set back, and gone another way":   {fresh(250), mods(5000, 5010), checksum.ErrSecurity},
		"set back far, and another way":    {fresh(3), mods(5000, 5400), checksum.ErrSecurity},
		"set back, the new one comes next": {fresh(250), nil, checksum.ErrSecurity},
	} {
		t.Run(name, func(t *testing.T) {
			before := fresh(300)
			cache := newShelf()
			d := open(t, l, cache, direct(before))
			hasSums(t, d, l, mod(0), mod(299))
			d.Close()
			head, _ := cache.file("/latest")
			if treeOf(t, l, head).N != 300 {
				t.Fatalf("the head is not kept: %s", head)
			}
			tt.then.add(tt.add...)
			d = open(t, l, cache, direct(tt.then))
			if x := mod(9000); tt.want != nil {
				for range 2 {
					wantErr(t, d, x, tt.want)
				}
				if now, _ := cache.file("/latest"); !bytes.Equal(head, now) {
					t.Error("the head was moved to a tree that contradicts it")
				}
				hasSums(t, d, l, mod(0), mod(299)) // what was proven stays
			} else {
				hasSums(t, d, tt.then, x)
			}
		})
	}
	t.Run("set back, but the same so far", func(t *testing.T) {
		cache := newShelf()
		hasSums(t, open(t, l, cache, direct(l)), l, mod(0))
		head, _ := cache.file("/latest")
		hasSums(t, open(t, l, cache, direct(fresh(200))), l, mod(150))
		if now, _ := cache.file("/latest"); !bytes.Equal(head, now) {
			t.Error("the head went backwards")
		}
	})
}

func TestTheProofOfAForkIsLogged(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 10)...)
	forked := l.again("fork")
	forked.add(mods(0, 20)...)
	cache := newShelf()
	hasSums(t, open(t, l, cache, direct(l)), l, mod(1))
	var logged []string
	d, err := checksum.New(checksum.Config{Key: l.vkey, Cache: cache, Conflict: store.ErrConflict, Remotes: []checksum.Remote{direct(forked)}, Log: func(s string) { logged = append(logged, s) }})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, d, mod(2), checksum.ErrSecurity)
	d.Close()
	if s := strings.Join(logged, "\n"); !strings.Contains(s, "misbehavior") || !strings.Contains(s, "proof") {
		t.Errorf("logged %q", s)
	}
}

func TestConcurrentLookupsAreOneCallAndNobodySpoilsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.add(mods(0, 300)...)
		gate := make(chan struct{})
		r := &remote{name: "database", h: func(ctx context.Context, path string) ([]byte, error) {
			select {
			case <-gate:
				return l.get(ctx, path)
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}}
		d := open(t, l, newShelf(), r)
		gone := errors.New("the client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		start := func(ctx context.Context, want error) {
			wg.Go(func() {
				zip, _, err := d.Sums(ctx, mod(7))
				if err != want || want == nil && zip != l.hash(mod(7), "zip") {
					t.Errorf("Sums = %s, %v; want %v", zip, err, want)
				}
			})
		}
		start(ctx, gone) // the first
		synctest.Wait()
		for range 30 {
			start(t.Context(), nil)
		}
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		close(gate)
		wg.Wait()
		if n := r.asked("/lookup/"); n != 1 {
			t.Errorf("%d lookups", n)
		}
	})
}

func TestConcurrentProofsAskForATileOnce(t *testing.T) {
	var near []int
	for i := range 50 {
		near = append(near, 14*i)
	}
	asksOnce(t, 700, near)
}

// More tiles than are remembered, of which each is wanted again while the first who
// wanted it still waits.
func TestProofsOfManyTilesAskForATileOnce(t *testing.T) {
	const tiles, later = 700, 20
	var ids []int
	for i := range tiles + later {
		if i < tiles {
			ids = append(ids, 256*i)
		}
		if i >= later {
			ids = append(ids, 256*(i-later)+1)
		}
	}
	asksOnce(t, 256*tiles, ids)
}

// asksOnce proves records of a database of a size, in their order and 64 at a time.
func asksOnce(t *testing.T, size int, ids []int) {
	l := newLog(t)
	l.add(mods(0, size)...)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := map[string]int{}
		r := &remote{name: "database", h: func(ctx context.Context, path string) ([]byte, error) {
			if strings.HasPrefix(path, "/tile/") {
				mu.Lock()
				seen[path]++
				mu.Unlock()
				time.Sleep(time.Second)
			}
			return l.get(ctx, path)
		}}
		d := open(t, l, newShelf(), r)
		todo := make(chan int)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for id := range todo {
					hasSums(t, d, l, mod(id))
				}
			})
		}
		for _, id := range ids {
			todo <- id
		}
		close(todo)
		wg.Wait()
		for path, n := range seen {
			if n != 1 {
				t.Errorf("%s was asked for %d times", path, n)
			}
		}
	})
}

func TestACacheThatCannotBeWrittenStillGivesProvenAnswersOnly(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 400)...)
	cache := newShelf()
	full := errors.New("the disk is full")
	cache.fail(nil, full)
	db := direct(l)
	var logged []string
	d, err := checksum.New(checksum.Config{Key: l.vkey, Cache: cache, Conflict: store.ErrConflict, Remotes: []checksum.Remote{db}, Log: func(s string) { logged = append(logged, s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i := range 20 {
		hasSums(t, d, l, mod(i), mod(399))
	}
	if len(logged) != 1 || !strings.Contains(logged[0], full.Error()) {
		t.Errorf("logged %q", logged)
	}
	for name, lie := range liars(t, l) {
		hasSums(t, d, l, mod(1), mod(2))
		db.serve(lie)
		for _, m := range []module.Version{mod(1), mod(2), mod(350)} {
			// A true record with tiles that are remembered may pass.
			if zip, _, err := d.Sums(t.Context(), m); err == nil && (!strings.Contains(name, "tile") || zip != l.hash(m, "zip")) {
				t.Errorf("%s: a liar got %s through", name, zip)
			}
		}
		db.serve(l.get)
	}
	// The head is remembered all the same, and goes to the disk when it can.
	if _, err := cache.file("/latest"); err == nil {
		t.Fatal("the cache was written")
	}
	cache.fail(nil, nil)
	l.add(mods(400, 500)...)
	hasSums(t, d, l, mod(1), mod(499))
	head, err := cache.file("/latest")
	if err != nil || treeOf(t, l, head).N != l.size(t) {
		t.Errorf("the head is not on the disk by now: %v", err)
	}
	// And with a cache that can be written in part: the head fails, then comes.
	cache.fail(nil, full)
	l.add(mods(500, 600)...)
	hasSums(t, d, l, mod(555))
	l.add(mods(600, 650)...)
	hasSums(t, d, l, mod(640))
	forked := l.again("fork")
	forked.add(mods(0, 1000)...)
	db.serve(forked.get)
	wantErr(t, d, mod(9), checksum.ErrSecurity)
	db.serve(l.get)
	cache.fail(nil, nil)
	l.add(mods(650, 700)...)
	hasSums(t, d, l, mod(680))
	if head, err := cache.file("/latest"); err != nil || treeOf(t, l, head).N != l.size(t) {
		t.Errorf("the head is not on the disk by now: %v", err)
	}
}

func TestAHeadThatIsKeptInMemoryNeverGoesBackwards(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 10)...)
	cache, db := newShelf(), direct(l)
	cache.fail(nil, errors.New("the disk is full"))
	d := open(t, l, cache, db)
	var begun atomic.Bool
	cache.onSwap = func() { // while the first head is about to be written, a second overtakes it
		if begun.CompareAndSwap(false, true) {
			l.add(mods(10, 300)...)
			hasSums(t, d, l, mod(299))
		}
	}
	hasSums(t, d, l, mod(1))
	db.serve(down)
	if msg, err := d.Latest(t.Context()); err != nil || treeOf(t, l, msg).N != 300 {
		t.Errorf("Latest = %s, %v", msg, err)
	}
}

func TestManyLookupsWithACacheThatCannotBeWritten(t *testing.T) {
	l := newLog(t)
	cache := newShelf()
	cache.fail(nil, errors.New("the disk is full"))
	d := open(t, l, cache, direct(l), mirror(l))
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%10 == 5 {
				cache.fail(nil, nil)
			}
			if i%10 == 0 {
				cache.fail(nil, errors.New("the disk is full"))
			}
			hasSums(t, d, l, mod(i), mod(i/2))
		})
	}
	wg.Wait()
}

func TestAHeadThatCannotBeReadIsNoForgery(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 10)...)
	cache := newShelf()
	d := open(t, l, cache, direct(l))
	hasSums(t, d, l, mod(1))
	cache.fail(errors.New("input/output error"), nil)
	err := wantErr(t, d, mod(2), checksum.ErrUnreachable)
	if !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("it says %v", err)
	}
	cache.fail(nil, nil)
	hasSums(t, d, l, mod(2))
}

func TestADamagedRecordIsFetchedAnew(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 10)...)
	cache, db := newShelf(), direct(l)
	d := open(t, l, cache, db)
	hasSums(t, d, l, mod(1), mod(2))
	name := dbName + "/lookup/example.com/!mod1@v1.0.0"
	whole, err := cache.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := cache.ReadFile(dbName + "/lookup/example.com/!mod2@v1.0.0")
	other := newLog(t)
	foreign, _ := other.get(t.Context(), "/lookup/example.com/!mod1@v1.0.0")
	for what, data := range map[string][]byte{
		"empty":         {},
		"cut":           whole[:len(whole)/2],
		"cut at end":    whole[:len(whole)-4],
		"another's":     second,
		"another key's": foreign,
		"noise":         []byte("\x00\x01\x02"),
		"no number":     append([]byte("x"), whole...),
		"beyond tree":   append([]byte("99"), whole...),
	} {
		cache.Cache.WriteFile(name, data)
		db.asked("")
		hasSums(t, d, l, mod(1))
		if n := db.asked("/lookup/"); n != 1 {
			t.Errorf("%s: asked %d times", what, n)
		}
		if now, _ := cache.ReadFile(name); !bytes.Equal(now, whole) {
			t.Errorf("%s: not mended", what)
		}
	}
}

func TestATileInTheCacheThatIsWrongIsFetchedAnew(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 600)...)
	cache, db := newShelf(), direct(l)
	hasSums(t, open(t, l, cache, db), l, mod(1), mod(300), mod(599))
	for _, path := range []string{"/tile/8/0/000", "/tile/8/0/001", "/tile/8/0/002.p/88", "/tile/8/1/000.p/2"} {
		whole, err := cache.file(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for what, data := range map[string][]byte{"short": whole[:32], "empty": {}, "other": bytes.Repeat([]byte{7}, len(whole))} {
			cache.Cache.WriteFile(dbName+path, data)
			d := open(t, l, cache, db)
			hasSums(t, d, l, mod(2), mod(301), mod(598))
			for _, m := range []module.Version{mod(2), mod(301), mod(598)} {
				name, _ := module.EscapePath(m.Path)
				cache.Cache.WriteFile(dbName+"/lookup/"+name+"@"+m.Version, nil) // to be proven again
			}
			if now, _ := cache.file(path); !bytes.Equal(now, whole) {
				t.Errorf("%s: %s: not mended", path, what)
			}
		}
	}
}

func TestATileIsProvenByTheRemotesWhereTheCacheIsWrong(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 600)...)
	cache := newShelf()
	d := open(t, l, cache, direct(l))
	hasSums(t, d, l, mod(599))
	upper, err := cache.file("/tile/8/1/000.p/2")
	if err != nil {
		t.Fatal(err)
	}
	cache.Cache.WriteFile(dbName+"/tile/8/1/000.p/2", bytes.Repeat([]byte{7}, len(upper)))
	data, err := d.Tile(t.Context(), "/tile/8/0/001")
	if want, _ := l.get(t.Context(), "/tile/8/0/001"); err != nil || !bytes.Equal(data, want) {
		t.Errorf("Tile = %d bytes, %v", len(data), err)
	}
	if now, _ := cache.file("/tile/8/1/000.p/2"); !bytes.Equal(now, upper) {
		t.Error("the wrong tile is not mended")
	}
}

func TestARemoteThatTellsTheTruthAgainIsBelieved(t *testing.T) {
	base := newLog(t)
	base.add(mods(0, 600)...)
	for name := range liars(t, base) {
		l := base.again("")
		l.add(mods(0, 600)...)
		db := direct(l)
		d := open(t, l, newShelf(), db)
		hasSums(t, d, l, mod(1))
		db.serve(liars(t, l)[name])
		l.add(mods(600, 900)...)
		d.Sums(t.Context(), mod(700))
		d.Tile(t.Context(), "/tile/8/0/001")
		db.serve(l.get)
		hasSums(t, d, l, mod(700), mod(300), mod(899))
	}
}

// The tiles that prove a head are on the disk before it is: a crash in between
// must not cost what was provable.
func TestACrashBehindTheHeadLosesNoTile(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 200)...)
	cache, db := newShelf(), direct(l)
	hasSums(t, open(t, l, cache, db), l, mod(10))
	l.add(mods(200, 300)...)
	cache.crash(true) // right behind the head
	hasSums(t, open(t, l, cache, db), l, mod(299))
	if head, _ := cache.file("/latest"); treeOf(t, l, head).N != 300 {
		t.Fatal("the head was not moved")
	}
	cache.crash(false)
	l.add(mods(300, 600)...)
	hasSums(t, open(t, l, cache, db), l, mod(500))
	verifies(t, l, "from files", cache.file, []module.Version{mod(500), mod(10)})
	verifies(t, l, "from files", cache.file, []module.Version{mod(10), mod(500)})
}

func TestAnotherDatabaseUnderTheSameNameIsNoFork(t *testing.T) {
	old, l := newLog(t), newLog(t)
	old.add(mods(0, 300)...)
	l.add(mods(100, 700)...)
	cache := newShelf()
	hasSums(t, open(t, old, cache, direct(old)), old, mods(0, 300)[:40]...)
	d := open(t, l, cache, direct(l))
	if _, err := d.Latest(t.Context()); err != nil {
		t.Error(err)
	}
	hasSums(t, d, l, mod(1), mod(2), mod(650), mod(300))
	head, _ := cache.file("/latest")
	if treeOf(t, l, head).N == 0 {
		t.Error("the new database's head is not kept")
	}
	hasSums(t, open(t, l, cache, direct(l)), l, mod(3), mod(600))
}

func TestLatestIsTheNewestHeadAndNeverAnOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.add(mods(0, 10)...)
		r := mirror(l)
		d := open(t, l, newShelf(), r, &remote{name: "database", h: down})
		latest := func(want int64) {
			t.Helper()
			msg, err := d.Latest(t.Context())
			if err != nil || treeOf(t, l, msg).N != want {
				t.Fatalf("Latest = %q, %v; want %d records", msg, err, want)
			}
		}
		latest(10)
		l.add(mods(10, 20)...)
		r.asked("")
		latest(10) // it is fresh
		if n := r.asked("/latest"); n != 0 {
			t.Errorf("asked %d times within a minute", n)
		}
		hasSums(t, d, l, mod(15))
		latest(20) // a lookup has shown a newer one
		time.Sleep(61 * time.Second)
		l.add(mods(20, 30)...)
		latest(30)
		time.Sleep(61 * time.Second)
		old := l.again("")
		old.add(mods(0, 5)...)
		r.serve(old.get) // lags
		latest(30)
		time.Sleep(61 * time.Second)
		other := newLog(t)
		r.serve(other.get)
		latest(30)
		r.serve(down)
		time.Sleep(61 * time.Second)
		r.asked("")
		latest(30)
		latest(30)
		if n := r.asked("/latest"); n != 1 {
			t.Errorf("asked %d times while it was down", n)
		}
	})
}

func TestLatestWithoutAnyHead(t *testing.T) {
	l := newLog(t)
	for _, r := range []*remote{{name: "database", h: down}, {name: "database", h: newLog(t).get}, {name: "mirror", mirror: true, h: func(_ context.Context, p string) ([]byte, error) { return nil, missing(p) }}} {
		msg, err := open(t, l, newShelf(), r).Latest(t.Context())
		if err == nil || errors.Is(err, fs.ErrNotExist) || !errors.Is(err, checksum.ErrUnreachable) && !errors.Is(err, checksum.ErrSecurity) {
			t.Errorf("Latest = %s, %v", msg, err)
		}
	}
}

func TestATileIsProvenBeforeItIsCached(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 600)...)
	cache := newShelf()
	m, db := mirror(l), direct(l)
	d := open(t, l, cache, m, db)
	hasSums(t, d, l, mod(599))
	want := func(path string) []byte {
		data, err := l.get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	m.serve(spoilt(l, "/tile/", func(data []byte) []byte { data[0] ^= 1; return data }))
	for _, path := range []string{"/tile/8/0/001", "/tile/8/0/000.p/17", "/tile/8/0/000", "/tile/8/0/002.p/88", "/tile/8/0/002.p/3", "/tile/8/1/000.p/1", "/tile/8/1/000.p/2"} {
		for range 2 {
			d := open(t, l, cache, m, db)
			data, err := d.Tile(t.Context(), path)
			if err != nil || !bytes.Equal(data, want(path)) {
				t.Errorf("%s: %d bytes, %v", path, len(data), err)
			}
		}
	}
	// Beyond what is proven it is handed on, and kept nowhere.
	l.add(mods(600, 800)...)
	m.serve(down)
	for _, path := range []string{"/tile/8/0/002", "/tile/8/0/003.p/32", "/tile/8/1/000.p/3", "/tile/8/data/000", "/tile/8/data/003.p/32"} {
		data, err := d.Tile(t.Context(), path)
		if err != nil || !bytes.Equal(data, want(path)) {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
		if _, err := cache.file(path); err == nil {
			t.Errorf("%s was cached without a proof", path)
		}
	}
	// With all remotes down: parts of what is there.
	db.serve(down)
	for path, have := range map[string]bool{
		"/tile/8/0/000": true, "/tile/8/0/000.p/200": true, "tile/8/0/001.p/1": true, // from the full one
		"/tile/8/0/002.p/88": true, "/tile/8/0/002.p/87": true, "/tile/8/0/002.p/1": true, // from the head's
		"/tile/8/0/002.p/89": false, "/tile/8/0/002": false, "/tile/8/data/000": false,
	} {
		data, err := d.Tile(t.Context(), path)
		if have != (err == nil) || have && !bytes.Equal(data, want("/"+strings.TrimPrefix(path, "/"))) {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
		if !have && (!errors.Is(err, checksum.ErrUnreachable) || errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("%s: %v, which must not be a 404", path, err)
		}
	}
}

func TestALyingMirrorAloneGivesNoTile(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 600)...)
	cache, m := newShelf(), mirror(l)
	hasSums(t, open(t, l, cache, m), l, mod(599))
	m.serve(spoilt(l, "/tile/", func(data []byte) []byte { data[0] ^= 1; return data }))
	if data, err := open(t, l, cache, m).Tile(t.Context(), "/tile/8/0/000"); !errors.Is(err, checksum.ErrSecurity) {
		t.Errorf("Tile = %d bytes, %v", len(data), err)
	}
	m.serve(func(_ context.Context, p string) ([]byte, error) {
		if p == "/supported" {
			return nil, nil
		}
		return nil, missing(p)
	})
	if _, err := open(t, l, cache, m).Tile(t.Context(), "/tile/8/0/000"); !errors.Is(err, checksum.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tile that the tree has is said to be missing: %v", err)
	}
}

func TestAPathThatIsNoTileDoesNotExist(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 600)...)
	db := direct(l)
	d := open(t, l, newShelf(), &remote{name: "mirror", mirror: true, h: func(_ context.Context, p string) ([]byte, error) { return nil, missing(p) }}, db)
	hasSums(t, d, l, mod(1))
	db.asked("")
	for _, path := range []string{
		"", "/", "tile", "/tile/8", "/tile/8/0", "/tile/8/0/1", "/tile/8/0/0001", "/tile/8/-1/000", "/tile/08/0/000", "/tile/8/0/000.p/0", "/tile/8/0/000.p/256",
		"/tile/8/0/../000", "/tile/8/0/000/", "/tile/8/data", "/tile/31/0/000", "/tile/4/0/000", "/tile/9/0/000", "/tile/8/8/000", "/tile/8/63/000",
		"/tile/8/1152921504606846976/000", "/tile/8/999999999999999999/x036/x028/x797/x018/x963/968", "/tile/8/0/x036/x028/x797/x018/x963/968",
		"/tile/8/7/x036/x028/x797/x018/x963/968", "/tile/8/0/x999/x999/x999/x999/x999/999", "/tile/8/0/x999/x999/x999/x999/x999/x999/x999/999",
		"/lookup/x@v1.0.0", "/tile/8/0/x000/000", "/tile/8/0/000.p/01",
	} {
		if data, err := d.Tile(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Tile(%q) = %d bytes, %v", path, len(data), err)
		}
	}
	if n := db.asked("/"); n != 0 {
		t.Errorf("the database was asked %d times for what is no tile", n)
	}
	for _, path := range []string{"/tile/8/0/003", "/tile/8/0/002.p/89", "/tile/8/2/000.p/1", "/tile/8/7/000", "/tile/8/0/x018/x014/x398/x509/x481/983", "/tile/8/data/007"} {
		if data, err := d.Tile(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Tile(%q), which the tree does not have yet, = %d bytes, %v", path, len(data), err)
		}
	}
}

func TestPartialTilesMayHaveGoneFromTheDatabase(t *testing.T) {
	l := newLog(t)
	l.add(mods(0, 300)...)
	// A server that keeps full tiles only, where there is one.
	fullOnly := func(ctx context.Context, path string) ([]byte, error) {
		if tl, err := tlog.ParseTilePath(strings.TrimPrefix(path, "/")); err == nil && tl.W < 256 && tl.L >= 0 {
			tl.W = 256
			if _, err := l.get(ctx, "/"+tl.Path()); err == nil {
				return nil, missing(path)
			}
		}
		return l.get(ctx, path)
	}
	cache, db := newShelf(), direct(l)
	old, _ := l.get(t.Context(), "/lookup/example.com/!mod7@v1.0.0") // with a head of 300
	d := open(t, l, cache, db)
	hasSums(t, d, l, mod(1))
	l.add(mods(300, 1200)...)
	db.serve(func(ctx context.Context, path string) ([]byte, error) {
		if path == "/lookup/example.com/!mod7@v1.0.0" {
			return old, nil
		}
		return fullOnly(ctx, path)
	})
	hasSums(t, d, l, mod(7), mod(1100), mod(299), mod(600))
	if data, err := d.Tile(t.Context(), "/tile/8/0/003.p/9"); err != nil || len(data) != 9*32 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if data, err := open(t, l, newShelf(), db).Tile(t.Context(), "/tile/8/0/002.p/9"); err != nil || len(data) != 9*32 {
		t.Errorf("beyond any head: %d bytes, %v", len(data), err)
	}
	db.serve(down)
	list := []module.Version{mod(1), mod(7), mod(1100), mod(299), mod(600)}
	verifies(t, l, "offline", offline(t, d), list)
	slices.Reverse(list)
	verifies(t, l, "from files", cache.file, list)
}

// Whatever was looked up, in whatever order and with whatever heads, can be proven
// by a client that starts afresh, without any remote: through us, and from the
// plain files of the cache.
func TestWhatWasLookedUpCanBeProvenOffline(t *testing.T) {
	steps := []int{1, 2, 3, 100, 255, 256, 257, 300, 511, 512, 513, 600, 770, 1023, 1025, 1300, 1400}
	if !testing.Short() {
		steps = append(steps, 65535, 65536, 65537, 65800, 66400)
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if seed > 0 && len(steps) > 17 {
				steps = steps[:17] // once is enough for the large tree
			}
			r := rand.New(rand.NewPCG(seed, 1))
			l := newLog(t)
			cache := newShelf()
			db, m := direct(l), mirror(l)
			// The mirror keeps what it was asked for once, with the head of that day.
			var mu sync.Mutex
			kept := map[string][]byte{}
			m.serve(func(ctx context.Context, path string) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if data, ok := kept[path]; ok && strings.HasPrefix(path, "/lookup/") {
					return data, nil
				}
				data, err := l.get(ctx, path)
				if err == nil {
					kept[path] = data
				}
				return data, err
			})
			d := open(t, l, cache, m, db)
			var looked, primed []module.Version
			for _, n := range steps {
				for _, x := range primed { // what the mirror has with an old head
					if r.IntN(8) == 0 {
						hasSums(t, d, l, x)
						looked = append(looked, x)
					}
				}
				// The mirror sees tree heads that we never see.
				l.add(mods(int(l.size(t)), int(l.size(t))+r.IntN(1+n-int(l.size(t))))...)
				prime := func(x module.Version) {
					esc, _ := module.EscapePath(x.Path)
					m.Get(t.Context(), "/lookup/"+esc+"@"+x.Version)
					primed = append(primed, x)
				}
				for range min(2, l.size(t)) {
					prime(mod(r.IntN(int(l.size(t)))))
				}
				if r.IntN(3) == 0 { // restart
					d.Close()
					d = open(t, l, cache, m, db)
				}
				l.add(mods(int(l.size(t)), n)...)
				for range 1 + r.IntN(4) {
					x := mod(r.IntN(n))
					if r.IntN(3) == 0 {
						x = mod(n - 1)
					}
					if r.IntN(3) == 0 { // the mirror gets it now, we ask later
						prime(x)
						continue
					}
					if r.IntN(3) > 0 {
						hasSums(t, d, l, x)
						looked = append(looked, x)
					}
					if back := mod(r.IntN(n)); r.IntN(2) == 0 { // one of old, perhaps with an old head
						hasSums(t, d, l, back)
						looked = append(looked, back)
					}
				}
				if r.IntN(4) == 0 {
					d.Latest(t.Context())
				}
				var wg sync.WaitGroup
				for range r.IntN(4) { // and some at once
					x := mod(r.IntN(n))
					looked = append(looked, x)
					wg.Go(func() { hasSums(t, d, l, x) })
				}
				wg.Wait()
			}
			d.Close()
			m.serve(down)
			db.serve(down)
			d = open(t, l, cache, m, db)
			for i := range 4 {
				list := shuffled(r, looked)
				switch i {
				case 0:
					list = looked
				case 1:
					slices.Reverse(list)
				}
				verifies(t, l, "through us", offline(t, d), list)
				verifies(t, l, "from files", cache.file, list)
			}
			for i := 0; i < len(looked); i += 3 { // as the first and only one
				verifies(t, l, "from files", cache.file, looked[i:i+1])
			}
		})
	}
}

// Two processes over one cache, each with a head of its own for a while.
func TestTwoProcessesShareACache(t *testing.T) {
	l := newLog(t)
	cache := newShelf()
	dbs := []*remote{direct(l), direct(l)}
	ds := []*checksum.DB{open(t, l, cache, dbs[0]), open(t, l, cache, dbs[1])}
	var mu sync.Mutex
	var looked []module.Version
	for round := range 8 {
		var wg sync.WaitGroup
		for p := range 2 {
			for k := range 4 {
				wg.Go(func() {
					x := mod(round*60 + p*30 + k*7)
					l.add(mods(round*60+p*30, round*60+p*30+k*7)...)
					hasSums(t, ds[p], l, x)
					mu.Lock()
					looked = append(looked, x)
					mu.Unlock()
				})
			}
		}
		wg.Wait()
	}
	for i := range 2 {
		dbs[i].serve(down)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		list := shuffled(r, looked)
		verifies(t, l, "through one", offline(t, ds[0]), list)
		verifies(t, l, "from files", cache.file, list)
	}
}

func TestReachableIsWhatCanBeServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		notThere := &remote{name: "mirror", mirror: true, h: func(_ context.Context, p string) ([]byte, error) { return nil, missing(p) }}
		db := &remote{name: "database", h: down}
		cache := newShelf()
		d := open(t, l, cache, notThere, db)
		for range 3 {
			if err := d.Reachable(t.Context()); !errors.Is(err, checksum.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "503") {
				t.Errorf("Reachable = %v", err)
			}
		}
		if n := db.asked("/"); n != 1 {
			t.Errorf("a dead database was asked %d times", n)
		}
		db.serve(l.get)
		if err := d.Reachable(t.Context()); err == nil {
			t.Error("it was asked again at once")
		}
		time.Sleep(31 * time.Second)
		if err := d.Reachable(t.Context()); err != nil {
			t.Errorf("Reachable = %v", err)
		}
		hasSums(t, d, l, mod(1))
		db.serve(down)
		wantErr(t, d, mod(2), checksum.ErrUnreachable)
		// It is down, but we have answers of it; after a restart too.
		for _, d := range []*checksum.DB{d, open(t, l, cache, notThere, db)} {
			if err := d.Reachable(t.Context()); err != nil {
				t.Errorf("Reachable = %v", err)
			}
		}
		if err := open(t, l, newShelf()).Reachable(t.Context()); !errors.Is(err, checksum.ErrUnreachable) {
			t.Errorf("with no remote: Reachable = %v", err)
		}
	})
}

func TestADeadMirrorIsNotAskedAtEachReachable(t *testing.T) {
	l := newLog(t)
	m := &remote{name: "mirror", mirror: true, h: down}
	d := open(t, l, newShelf(), m)
	for range 3 {
		if err := d.Reachable(t.Context()); !errors.Is(err, checksum.ErrUnreachable) {
			t.Errorf("Reachable = %v", err)
		}
	}
	if n := m.asked("/"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestCloseEndsWhatIsUnderWayAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		var running atomic.Int64
		r := &remote{name: "database", h: func(ctx context.Context, path string) ([]byte, error) {
			running.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			time.Sleep(time.Second) // it takes its time
			return nil, context.Cause(ctx)
		}}
		d := open(t, l, newShelf(), r)
		var wg sync.WaitGroup
		wg.Go(func() { wantErr(t, d, mod(1), checksum.ErrUnreachable) })
		wg.Go(func() { d.Tile(t.Context(), "/tile/8/0/000") })
		synctest.Wait()
		start := time.Now()
		d.Close()
		if took := time.Since(start); took != time.Second || running.Load() != 0 {
			t.Errorf("Close took %v and left %d calls", took, running.Load())
		}
		wg.Wait()
		wantErr(t, d, mod(2), checksum.ErrUnreachable)
		d.Close()

		d = open(t, l, newShelf(), direct(l))
		hasSums(t, d, l, mod(1))
		d.Close()
		wantErr(t, d, mod(1), checksum.ErrUnreachable) // even what is cached
	})
}

func TestCloseAndLookupsAtOnce(t *testing.T) {
	l := newLog(t)
	for range 50 {
		d := open(t, l, newShelf(), direct(l))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { d.Sums(t.Context(), mod(i)) })
		}
		d.Close()
		wg.Wait()
	}
}

func TestAKeyOrNameThatCannotBeUsedIsRefused(t *testing.T) {
	for _, key := range []string{"", "sum.golang.org", "sum.golang.org+033de0ae", "sum.golang.org+033de0ae+AAAA"} {
		if _, err := checksum.New(checksum.Config{Key: key, Cache: newShelf()}); err == nil || !strings.Contains(err.Error(), "NAME+HASH+KEY") {
			t.Errorf("New(%q) = %v", key, err)
		}
	}
	for _, name := range []string{"sum.test/", "/x", "%zz"} {
		_, vkey, err := note.GenerateKey(nil, name)
		if err != nil {
			continue
		}
		if _, err := checksum.New(checksum.Config{Key: vkey, Cache: newShelf()}); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
}

func TestARecordThatLacksAHashIsNoAnswer(t *testing.T) {
	l := newLog(t)
	l.srv = newServer(l, func(path, vers string) string { return path + " " + vers + " h1:abc=\n" })
	d := open(t, l, newShelf(), direct(l))
	err := wantErr(t, d, mod(1), checksum.ErrUnknown)
	if !strings.Contains(err.Error(), "lacks a hash") {
		t.Errorf("%v", err)
	}
}

func TestAConflictThatNobodyNamedEndsNothing(t *testing.T) {
	l := newLog(t)
	d, err := checksum.New(checksum.Config{Key: l.vkey, Cache: newShelf(), Remotes: []checksum.Remote{direct(l)}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	hasSums(t, d, l, mod(1), mod(2))
}

// Whatever a remote answers, the hashes are the database's or there are none.
func FuzzAnswers(f *testing.F) {
	l := knownLog(f)
	l.add(mods(0, 300)...)
	good, _ := l.get(f.Context(), "/lookup/example.com/!mod1@v1.0.0")
	tile, _ := l.get(f.Context(), "/tile/8/0/000")
	other, _ := l.get(f.Context(), "/lookup/example.com/!mod2@v1.0.0")
	f.Add(good, tile)
	f.Add(other, tile)
	f.Add(bytes.Replace(good, []byte("h1:"), []byte("h1:A"), 1), tile)
	f.Add([]byte("1\n\n"), []byte{})
	f.Add(good[1:], tile[:32])
	f.Fuzz(func(t *testing.T, record, tile []byte) {
		r := &remote{name: "database", h: func(ctx context.Context, path string) ([]byte, error) {
			switch {
			case strings.HasPrefix(path, "/lookup/"):
				return record, nil
			case path == "/tile/8/0/000":
				return tile, nil
			}
			return l.get(ctx, path)
		}}
		c := checksum.Config{Key: l.vkey, Cache: newShelf(), Conflict: store.ErrConflict, Remotes: []checksum.Remote{r}}
		d, err := checksum.New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		zip, gomod, err := d.Sums(t.Context(), mod(1))
		if err == nil && (zip != l.hash(mod(1), "zip") || gomod != l.hash(mod(1), "mod")) {
			t.Fatalf("%q got %s, %s through", record, zip, gomod)
		}
		if err != nil && !errors.Is(err, checksum.ErrSecurity) && !errors.Is(err, checksum.ErrUnreachable) && !errors.Is(err, checksum.ErrUnknown) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}

func FuzzTilePath(f *testing.F) {
	for _, s := range []string{"/tile/8/0/000", "/tile/8/1/000.p/1", "/tile/8/data/x001/234.p/5", "/tile/8/9223372036854775807/000", "/tile/8/7/x036/x028/x797/x018/x963/968"} {
		f.Add(s)
	}
	l := newLog(f)
	l.add(mods(0, 300)...)
	d, err := checksum.New(checksum.Config{Key: l.vkey, Cache: newShelf(), Conflict: store.ErrConflict, Remotes: []checksum.Remote{direct(l)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(d.Close)
	hasSums(f, d, l, mod(1))
	f.Fuzz(func(t *testing.T, path string) {
		data, err := d.Tile(t.Context(), path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Tile(%q) = %v", path, err)
		}
		if err != nil {
			return // x/mod's server counts its way to a level, however high
		}
		if want, werr := l.get(t.Context(), "/"+strings.TrimPrefix(path, "/")); werr != nil || !bytes.Equal(data, want) {
			t.Fatalf("Tile(%q) = %d bytes, want %d, %v", path, len(data), len(want), werr)
		}
	})
}
