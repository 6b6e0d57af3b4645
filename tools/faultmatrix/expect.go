//go:build unix

package main

import (
	"regexp"

	"github.com/modsluice/sluice/internal/modtest"
)

// A chain is one spelling of three sources, and what it is served with.
type chain struct {
	name     string // in the names of cells
	sep      string
	failover string // of sluice serve
}

func (c chain) String() string {
	s := "a" + c.sep + "b" + c.sep + "c"
	if c.failover == "proxies" {
		s += ` with failover = "proxies"`
	}
	return s
}

const (
	pipe         = iota // past anything
	commaProxies        // past a proxy in trouble
	comma               // past 404 and 410, as the go command
)

func chains() []chain {
	return []chain{
		pipe:         {"pipe", "|", "as-written"},
		commaProxies: {"comma-proxies", ",", "proxies"},
		comma:        {"comma", ",", "as-written"},
	}
}

// A position says which of the three sources misbehave.
type position struct {
	name string
	doc  string
	bad  int
	warm bool // the store has the first set of modules
}

func positions() []position {
	return []position{
		{"first", "first of three", 1, false},
		{"two", "first two of three", 2, false},
		{"all", "all three, store warm", 3, true},
	}
}

// A kind is what a fault is to the rules of a chain.
type kind int

const (
	trouble  kind = iota // the source has no say
	wrong                // it answers, and what it answers is not true
	refusal              // it says no on purpose
	notHere              // it says that it has no such thing
	slowList             // it answers everything, lists late
	lostSums             // it has all modules, but no way to the checksum database
)

// A rule is what must come of a kind of fault where the sources after it are
// well, by chain; with the store warm every build passes, whatever the chain. It
// is the one place where that is decided: the go command's rule (past a comma at
// 404 and 410 only, past a bar at anything) and Sluice's (failover = "proxies"
// passes over a proxy in trouble for the next proxy, but never past a 401 or 403).
type rule struct {
	title string
	pass  [3]bool           // by chain
	says  [3]*regexp.Regexp // what a build that must fail has to tell; nil where it passes
	// spares says that Sluice can learn to ask this source no more: then the cost
	// once known is judged by share. Where it cannot, since each question is
	// another one or the answer counts, a second must do for the whole download.
	spares bool
	// word is how many seconds are waited for it once in each download, where another
	// source says "not found" first, as is said of every prefix of a module path: it
	// might have it. Behind commas each is waited for in its turn.
	word float64
	// untimed are the chains in which the source's answer must be waited for.
	untimed [3]bool
	why     string
}

func rules() map[kind]rule {
	// In the words of what Sluice says to the go command's user.
	atComma := regexp.MustCompile(`a comma follows`)
	no := regexp.MustCompile(`401|403|refuse|a comma follows`)
	return map[kind]rule{
		trouble: {
			title: "trouble", pass: [3]bool{true, true, false}, says: [3]*regexp.Regexp{comma: atComma}, spares: true,
			why: "It cannot tell whether it has the module. `|` goes on; `failover = \"proxies\"` passes over it for the next proxy; a comma as written does not, because a gatekeeper that is down must not be walked round.",
		},
		wrong: {
			title: "wrong bytes", pass: [3]bool{true, true, false}, says: [3]*regexp.Regexp{comma: atComma},
			why: "What disagrees with the checksum database is one more way for a source to be in trouble, for this module: it is asked for the next one again.",
		},
		refusal: {
			title: "refusal", pass: [3]bool{true, false, false}, says: [3]*regexp.Regexp{commaProxies: no, comma: no},
			why: "401 and 403 are a gatekeeper's no, which only `|` goes past; it may let the next module through, so it is asked.",
		},
		notHere: {
			title: "not found", pass: [3]bool{true, true, true},
			why: "404 and 410 are an answer, and let `,` and `|` go on alike. It may have the next module, so it is asked.",
		},
		slowList: {
			title: "slow", pass: [3]bool{true, true, true}, spares: true, word: 1.2, untimed: [3]bool{comma: true},
			why: "It is slow, not in trouble. Where the chain lets another answer in its place nobody waits; behind a comma as written its answer counts, and is waited for. Also before another source's \"not found\" is believed, its own word is waited for: once in each download, for its second and the way there.",
		},
		lostSums: {
			title: "no checksum database", pass: [3]bool{true, true, true}, spares: true,
			why: "The modules come from the source itself, so no comma is passed; the database's answers prove themselves, whoever hands them on.",
		},
	}
}

// A fault is one row of the matrix.
type fault struct {
	name   string // in the names of cells
	doc    string
	kind   kind
	spec   string                                            // of internal/faults, for a source that serves HTTP
	wire   func(m *matrix, t *modtest.Scope, i int) *badWire // else: what stands at the source's address
	half   bool                                              // of the modules only
	update bool                                              // the client asks for lists, too
	waits  bool                                              // a client without a time limit may wait for ever
}

func table() []fault {
	return []fault{
		{name: "refused", doc: "connection refused", wire: refused},
		{name: "black-hole", doc: "black hole: connection attempts are dropped", wire: blackHole, waits: true},
		{name: "dns-dead", doc: "DNS dead: the name server never answers", wire: dnsDead, waits: true},
		{name: "dns-lying", doc: "DNS lying: the name leads to another machine, which has another certificate", wire: dnsLying},
		{name: "tls-unknown-ca", doc: "TLS, unknown CA", wire: tlsUnknownCA},
		{name: "tls-stalled", doc: "TLS stalled: the handshake is never answered", wire: tlsStalled, waits: true},
		{name: "401", doc: "401", kind: refusal, spec: "401"},
		{name: "403", doc: "403", kind: refusal, spec: "403"},
		{name: "404-page", doc: "404 with an HTML page, for trouble", kind: notHere, spec: "404-html"},
		{name: "407", doc: "407", spec: "407"},
		{name: "410", doc: "410", kind: notHere, spec: "410"},
		{name: "429", doc: "429 with Retry-After: 30", spec: "429=30"},
		{name: "500", doc: "500", spec: "500"},
		{name: "502", doc: "502", spec: "502"},
		{name: "503", doc: "503", spec: "503"},
		{name: "hang", doc: "hangs before the header", spec: "hang", waits: true},
		{name: "hang-body", doc: "hangs in the middle of the body", spec: "hang-body", waits: true},
		{name: "drip", doc: "1 byte/s", spec: "drip=1", waits: true},
		{name: "reset", doc: "reset at 50 %", spec: "reset=50%"},
		{name: "cut", doc: "truncated at 50 %, with a length", spec: "cut=50%"},
		{name: "cut-no-length", doc: "truncated at 50 %, without a length", spec: "close=50%"},
		{name: "wrong-bytes", doc: "wrong bytes: one bit of each zip's data is flipped", kind: wrong, spec: "zip:flip=data"},
		{name: "html", doc: "200 with an HTML page", spec: "html"},
		{name: "redirect-loop", doc: "redirect loop", spec: "redirect-loop"},
		{name: "slow-list", doc: "slow list only: 1 s", kind: slowList, spec: "slow-list=1s", update: true, waits: true},
		{name: "sumdb-dead", doc: "sumdb dead: the source's /sumdb/ hangs", kind: lostSums, spec: "sumdb:hang", waits: true},
		{name: "stale", doc: "stale mirror: lacks the newest version of half of the modules", kind: notHere, spec: "stale=1", half: true},
	}
}
