package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// reply is an answer to query with these addresses of a TTL, or with a SOA record
// where there are none.
func reply(query []byte, ttl uint32, addrs ...string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		panic(err)
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: ttl}
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	if len(m.Answers) == 0 {
		h.Type = dnsmessage.TypeSOA
		m.Authorities = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.SOAResource{NS: q.Name, MBox: q.Name, MinTTL: 3600}}}
	}
	msg, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return msg
}

// scripted is a DNS whose resolver is a function.
func scripted(ask func(ctx context.Context, query []byte) ([]byte, error)) *DNS {
	return &DNS{server: "udp://test", wait: siblingWait, cache: map[dnsKey]dnsEntry{}, idle: func() {},
		ask: func(ctx context.Context, query []byte, _ func([]byte) error) ([]byte, error) { return ask(ctx, query) }}
}

func TestAnAnswerIsRememberedAsLongAsItSays(t *testing.T) {
	for _, tt := range []struct {
		ttl   uint32
		addrs []string
		good  time.Duration // the answer is used without asking again
	}{
		{60, []string{"192.0.2.1"}, time.Minute},
		{0, []string{"192.0.2.1"}, 0},
		{7 * 86400, []string{"192.0.2.1"}, longestTTL},
		{10, nil, 10 * time.Second},
		{3600, nil, longestNoTTL},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			d := scripted(func(_ context.Context, query []byte) ([]byte, error) {
				asked++
				return reply(query, tt.ttl, tt.addrs...), nil
			})
			look := func() {
				addrs, err := d.LookupNetIP(t.Context(), "ip4", "a.test")
				if len(addrs) != len(tt.addrs) || (err == nil) != (len(tt.addrs) > 0) {
					t.Errorf("%v, %v", addrs, err)
				}
			}
			look()
			if tt.good > 0 {
				time.Sleep(tt.good - 1)
				look()
				if asked != 1 {
					t.Errorf("TTL %d: asked again within %v", tt.ttl, tt.good)
				}
				time.Sleep(time.Nanosecond)
			}
			look()
			if asked != 2 {
				t.Errorf("TTL %d: asked %d times, %v later", tt.ttl, asked, tt.good)
			}
		})
	}
}

func TestWhileTheResolverIsDownItsLastAnswerIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, error(nil)
		d := scripted(func(_ context.Context, query []byte) ([]byte, error) {
			asked++
			if down != nil {
				return nil, down
			}
			return reply(query, 60, "192.0.2.1"), nil
		})
		look := func(want bool) {
			t.Helper()
			addrs, err := d.LookupNetIP(t.Context(), "ip4", "a.test")
			if (len(addrs) == 1) != want || (err == nil) != want {
				t.Errorf("%v, %v", addrs, err)
			}
		}
		look(true)
		down = &net.OpError{Op: "read", Net: "udp", Err: errors.New("i/o timeout")}
		time.Sleep(time.Hour)
		look(true)
		look(true)
		if asked != 2 {
			t.Errorf("asked %d times; after a failure the old answer counts for %v", asked, staleRetry)
		}
		time.Sleep(staleRetry)
		look(true)
		if asked != 3 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(staleFor)
		look(false)
		down = nil
		look(true)
	})
}

func TestANameThatIsGoneIsGoneAlsoIfItWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there := []string{"192.0.2.1"}
		d := scripted(func(_ context.Context, query []byte) ([]byte, error) { return reply(query, 60, there...), nil })
		if _, err := d.LookupNetIP(t.Context(), "ip4", "a.test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		there = nil
		_, err := d.LookupNetIP(t.Context(), "ip4", "a.test")
		if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
			t.Errorf("%v", err)
		}
	})
}

func TestOneFamilyDoesNotWaitLongForTheOther(t *testing.T) {
	for _, tt := range []struct {
		four, six time.Duration // when each answers
		want      int           // addresses
		after     time.Duration
	}{
		{0, 50 * time.Millisecond, 2, 50 * time.Millisecond},
		{0, time.Second, 1, siblingWait},
		{time.Second, 0, 1, siblingWait},
		{2 * time.Second, time.Second, 1, time.Second + siblingWait},
		{time.Hour, time.Hour, 0, dnsBudget},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := scripted(func(ctx context.Context, query []byte) ([]byte, error) {
				var m dnsmessage.Message
				m.Unpack(query)
				wait := tt.four
				if m.Questions[0].Type == dnsmessage.TypeAAAA {
					wait = tt.six
				}
				select {
				case <-time.After(wait):
					return reply(query, 60, "192.0.2.1", "2001:db8::1"), nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
			start := time.Now()
			addrs, err := d.LookupNetIP(t.Context(), "ip", "a.test")
			if took := time.Since(start); len(addrs) != tt.want || took != tt.after {
				t.Errorf("%v and %v: %v, %v after %v", tt.four, tt.six, addrs, err, took)
			}
			if dns, _ := errors.AsType[*net.DNSError](err); tt.want == 0 && !dns.IsTimeout {
				t.Errorf("%v", err)
			}
			time.Sleep(dnsBudget)
		})
	}
}

// What is at hand is taken, also by who comes to it when the time to wait is over.
func TestNoFamilyIsLeftBehindThatIsAtHand(t *testing.T) {
	d := scripted(func(_ context.Context, query []byte) ([]byte, error) {
		return reply(query, 60, "192.0.2.1", "2001:db8::1"), nil
	})
	d.wait = 0
	for _, network := range []string{"ip4", "ip6"} {
		if _, err := d.LookupNetIP(t.Context(), network, "a.test"); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		if addrs, err := d.LookupNetIP(t.Context(), "ip", "a.test"); err != nil || len(addrs) != 2 {
			t.Fatalf("%v, %v", addrs, err)
		}
	}
}

// Of two troubles the one that does not say "no such name" counts: half an answer
// is no knowledge.
func TestANameDoesNotCountAsGoneWhileOneFamilyIsUnknown(t *testing.T) {
	for _, late := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		synctest.Test(t, func(t *testing.T) {
			d := scripted(func(_ context.Context, query []byte) ([]byte, error) {
				var m dnsmessage.Message
				m.Unpack(query)
				if m.Questions[0].Type == late {
					time.Sleep(time.Second)
				}
				if m.Questions[0].Type == dnsmessage.TypeA {
					return nil, errors.New("its hard disk is full")
				}
				return reply(query, 60), nil
			})
			_, err := d.LookupNetIP(t.Context(), "ip", "a.test")
			if dns, ok := errors.AsType[*net.DNSError](err); !ok || dns.IsNotFound || dns.IsTimeout || !dns.IsTemporary || !strings.Contains(err.Error(), "hard disk") {
				t.Errorf("%v late: %#v", late, err)
			}
		})
	}
}

func TestTheMemoryOfADNSIsBounded(t *testing.T) {
	d := scripted(func(_ context.Context, query []byte) ([]byte, error) { return reply(query, 60, "192.0.2.1"), nil })
	for i := range 2 * dnsEntries {
		if _, err := d.LookupNetIP(t.Context(), "ip4", fmt.Sprintf("a%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.cache) != dnsEntries {
		t.Errorf("%d entries", len(d.cache))
	}
}

func FuzzAnswer(f *testing.F) {
	name := dnsmessage.MustNewName("a.test.")
	q4 := dnsmessage.Question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	q6 := q4
	q6.Type = dnsmessage.TypeAAAA
	for _, q := range []dnsmessage.Question{q4, q6} {
		query, err := question(7, q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(query)
		f.Add(reply(query, 60, "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "0.0.0.0"))
		f.Add(reply(query, 60))
		alias := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}, Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET, TTL: 1 << 31}, Body: &dnsmessage.CNAMEResource{CNAME: name}},
		}}
		msg, _ := alias.Pack()
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, q := range []dnsmessage.Question{q4, q6} {
			if checkOurs(msg, 7, q) == nil && (len(msg) < 12 || msg[0] != 0 || msg[1] != 7) {
				t.Error("an answer without the question's ID is taken")
			}
			truncated(msg)
			addrs, ttl, err := parseAnswer(msg, q)
			if err != nil && addrs != nil || ttl < 0 || len(addrs) > 0 && ttl > longestTTL {
				t.Errorf("%v, %v, %v", addrs, ttl, err)
			}
			if slices.ContainsFunc(addrs, func(a netip.Addr) bool {
				return a.Is4() != (q.Type == dnsmessage.TypeA) || a.IsUnspecified() || a.Is4In6() || a.Zone() != ""
			}) {
				t.Errorf("%v for %v", addrs, q.Type)
			}
		}
	})
}
