package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A Said is what one name server says of a name.
type Said struct {
	Name     string       // the one of the names that has the addresses, without the last dot; "" if none has
	Addrs    []netip.Addr // of both families
	NotFound bool         // it says that none of the names exists, or that they have no address
	Silent   bool         // nothing came
	Refused  bool         // nothing listens there, which is told at once
	Half     bool         // it has addresses of one family, and is silent when asked for the other's
	OnlyTCP  bool         // nothing came by UDP, and the answer by TCP
	NoTCP    bool         // the answer is too long for a datagram, and by TCP nothing came
	Err      error        // why there are no addresses; nil if there are some
	Took     time.Duration
}

// AskServer asks one name server for the addresses of names, in turn until one has
// some, as a resolver does that has a list of domains to search. The names are full
// ones. wait is the longest that one name may take. With tcp it is asked by TCP alone.
func AskServer(ctx context.Context, server netip.AddrPort, names []string, wait time.Duration, tcp bool) (s Said) {
	begin := time.Now()
	defer func() { s.Took = time.Since(begin) }()
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if _, err := dnsmessage.NewName(name + "."); err != nil || name == "" {
			continue
		}
		var four, six told
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(ctx, wait)
		wg.Go(func() { four = tell(ctx, server.String(), dnsKey{name + ".", dnsmessage.TypeA}, wait, tcp) })
		wg.Go(func() { six = tell(ctx, server.String(), dnsKey{name + ".", dnsmessage.TypeAAAA}, wait, tcp) })
		wg.Wait()
		cancel()
		s = Said{OnlyTCP: four.onlyTCP || six.onlyTCP, NoTCP: four.noTCP || six.noTCP}
		s.Addrs = append(four.addrs, six.addrs...)
		if len(s.Addrs) > 0 {
			s.Name, s.Half = name, four.silent() || six.silent()
			return s
		}
		for _, t := range []told{four, six} {
			if t.err != nil && (s.Err == nil || t.silent()) {
				s.Err = t.err
			}
		}
		s.Refused = errors.Is(s.Err, syscall.ECONNREFUSED)
		s.Silent = !s.Refused && !s.NoTCP && (four.silent() || six.silent())
		if s.Err != nil {
			return s // it cannot tell, so the next name would be no use to anybody
		}
		s.NotFound, s.Err = true, errors.New(noSuchHost)
	}
	if s.Err == nil {
		s.NotFound, s.Err = true, errors.New("it is not a name that can exist")
	}
	return s
}

// A told is what a name server says to one question. Without addresses and without
// an error there are none.
type told struct {
	addrs          []netip.Addr
	onlyTCP, noTCP bool
	err            error
}

// silent reports whether nothing came, which is not the same as a refusal.
func (t told) silent() bool {
	return t.err != nil && !t.noTCP && unanswered(t.err) && !errors.Is(t.err, syscall.ECONNREFUSED)
}

// tell asks by one datagram and, where nothing comes for a third of the time or the
// answer does not fit, by TCP too; or by TCP alone.
func tell(ctx context.Context, server string, k dnsKey, wait time.Duration, alone bool) told {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName(k.name), Type: k.typ, Class: dnsmessage.ClassINET}
	id := uint16(rand.Uint32())
	query, err := question(id, q)
	if err != nil {
		return told{err: err}
	}
	ours := func(msg []byte) error { return checkOurs(msg, id, q) }
	if alone {
		msg, err := overTCP(ctx, server, query)
		if err == nil {
			err = ours(msg)
		}
		if err != nil {
			return told{err: err}
		}
		return read(msg, q)
	}
	type came struct {
		msg []byte
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	udp, tcp := make(chan came, 1), make(chan came, 1)
	asked := false // by TCP, beside
	defer func() {
		cancel()
		if asked {
			<-tcp
		}
	}()
	viaTCP := func() {
		msg, err := overTCP(ctx, server, query)
		if err == nil {
			err = ours(msg)
		}
		tcp <- came{msg, err}
	}
	go func() {
		msg, err := datagram(ctx, server, query, wait, ours)
		udp <- came{msg, err}
	}()
	later := time.NewTimer(wait / 3)
	defer later.Stop()
	var got came
	for got.msg == nil && got.err == nil {
		select {
		case got = <-udp:
		case <-later.C:
			asked = true
			go viaTCP()
		}
	}
	switch {
	case got.err == nil && truncated(got.msg):
		if !asked {
			asked = true
			go viaTCP()
		}
		got = <-tcp
		asked = false
		if got.err != nil {
			return told{noTCP: true, err: fmt.Errorf("its answer is too long for a datagram, and by TCP nothing comes: %w", got.err)}
		}
	case got.err != nil && asked && unanswered(got.err):
		t := <-tcp
		asked = false
		if t.err == nil {
			a := read(t.msg, q)
			a.onlyTCP = true
			return a
		}
	}
	if got.err != nil {
		return told{err: got.err}
	}
	return read(got.msg, q)
}

func read(msg []byte, q dnsmessage.Question) told {
	addrs, _, err := parseAnswer(msg, q)
	return told{addrs: addrs, err: err}
}
