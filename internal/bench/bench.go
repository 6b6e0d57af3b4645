// Package bench measures mirrors of Go modules from here: whether each can be reached,
// how long it takes, how often it fails, whether it lags behind the others, whether its
// bytes are the right ones, whether it mirrors the checksum database and gives parts of
// files. What comes of it is a Report: a verdict for each, a ranking, and who is to be
// used.
//
// It is not the benchmark of Sluice itself, which is in bench/ of the repository, and it
// changes nothing. It trusts none of the mirrors, and leaves each of them in peace: one
// request at a time, within a budget of time and bytes.
//
// The medians have intervals by order statistics, and the share of failures Wilson's;
// the rounds are interleaved in an order that chance makes, so that what the line or the
// machine does meanwhile is spread over all.
package bench

import (
	"context"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/upstream"
)

// Schema names the form of a Report as JSON. Fields may be added to it.
const Schema = "sluice-bench/1"

// Parallel is how many requests are under way at one mirror at most.
const Parallel = 1

// Where a mirror is from.
const (
	FromSettings  = "settings"  // GOPROXY, or proxy in the configuration of Sluice
	FromToolchain = "toolchain" // its default
	FromCatalogue = "catalogue"
	FromNamed     = "named" // on the command line
)

// Froms lists all of them. The caller owns the result.
func Froms() []string {
	return []string{FromSettings, FromToolchain, FromCatalogue, FromNamed}
}

// A Mirror is one to be measured.
type Mirror struct {
	Name string // for people
	URL  string // as GOPROXY has it, with its credentials
	From string
	Note string // what was last known of it

	Source *upstream.HTTPSource
	Idle   func() // drops its connections, so that the next request makes a new one
	// Sums gives the hashes of a module version that the mirror's own copy of the
	// checksum database proves. Errors are those of package checksum. Nil: there is
	// no database to be mirrored.
	Sums Sums
}

// Sums gives the h1 hashes of a version's zip and of its go.mod.
type Sums func(ctx context.Context, mod module.Version) (zip, gomod string, err error)

// A Candidate is a module version that may be in the sample.
type Candidate struct {
	Module module.Version
	Size   int64 // of its zip in bytes; 0: not known
}

// A Plan says what is measured, and what it may cost.
type Plan struct {
	Mirrors    []Mirror
	Candidates []Candidate // at least one, of which some are chosen: the smallest, the largest that the budget allows, and one between
	All        bool        // all of them instead, as far as the budget allows
	Rounds     int         // after one that warms up and is not counted
	Time       time.Duration
	Bytes      int64 // of one mirror, as Time is

	// Answer is the longest that one small answer may take; a zip may take the
	// mirror's share of a round.
	Answer time.Duration

	Database string // name of the checksum database; "": there is none
	Sums     Sums   // what the database says, over whichever way; nil: there is none
	Direct   Sums   // over the way to the database itself; nil: there is none

	// Tail is what stands behind the mirrors in the GOPROXY that is recommended, with
	// the separator before it: ",direct".
	Tail string

	// Scratch is a directory for temporary files, in which zips lie while they are looked
	// at, one of each mirror at most; "" or one that takes none: only small zips are
	// looked into.
	Scratch string

	Shuffle  func(n int, swap func(i, j int))
	Progress func(Progress) // nil: nobody is told
}

// Progress is how far a measurement is.
type Progress struct {
	Text        string // what is done at present
	Done, Total int    // measurements of a mirror in a round
}

// A Verdict says in a word what is the matter with a mirror.
type Verdict string

const (
	Good    Verdict = "good"
	Bare    Verdict = "no-sumdb" // it does not mirror the checksum database
	NoRange Verdict = "no-range" // it does not go on with a file that broke off
	Slow    Verdict = "slow"
	Stale   Verdict = "stale"   // it lacks versions that others have, or never gives them
	Lossy   Verdict = "lossy"   // requests fail at times
	Unknown Verdict = "unknown" // too little was measured
	Dead    Verdict = "dead"    // nothing came
	Lying   Verdict = "lying"   // other bytes than those that belong there
)

// Verdicts lists all verdicts, the best first. The caller owns the result.
func Verdicts() []Verdict {
	return []Verdict{Good, NoRange, Bare, Slow, Stale, Lossy, Unknown, Dead, Lying}
}

// What a mirror answers to a question of yes and no.
const (
	Yes     = "yes"
	No      = "no"
	Wrong   = "wrong" // it answers, and falsely
	Untold  = "unknown"
	Unasked = "unasked"
)

// Where the right hashes of a module are from.
const (
	ByDatabase = "database"
	ByMajority = "majority" // of the mirrors, where the database could not be asked
	ByNobody   = "nobody"
)

// How a measurement ended.
const (
	Complete    = "complete"
	Interrupted = "interrupted"
)

// A Report is what was measured.
type Report struct {
	Schema      string      `json:"schema"`
	Sentence    string      `json:"sentence"` // the result in one sentence
	Ended       string      `json:"ended"`    // complete, interrupted
	Rounds      int         `json:"rounds"`   // that count, in which all mirrors had their turn
	Began       time.Time   `json:"began"`
	TookMS      int64       `json:"took_ms"`
	Budget      Budget      `json:"budget"`
	Modules     []Sampled   `json:"modules"`
	Database    Database    `json:"database"`
	Mirrors     []Measured  `json:"mirrors"` // the best first
	Recommended Recommended `json:"recommended"`
	Project     Project     `json:"project"` // of no file unless that was asked for

	use    []string // Recommended.Mirrors, with their credentials
	masked bool     // Recommended.Command has an xxxxx to be filled in
}

// Use is the GOPROXY list of the mirrors that are recommended, with their credentials;
// "" if none is.
func (r *Report) Use() string {
	list := ""
	for i, u := range r.use {
		if i > 0 {
			list += "|"
		}
		list += u
	}
	return list
}

// Masked reports whether the recommended command has xxxxx in the place of credentials
// that have to be written again.
func (r *Report) Masked() bool { return r.masked }

// Budget is what may be asked of one mirror.
type Budget struct {
	Rounds   int     `json:"rounds"` // that were to be made
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes"`
	Parallel int     `json:"parallel"` // requests at once
}

// Sampled is a module version that the mirrors were asked for.
type Sampled struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`  // of its zip; 0 if nobody had it
	Zip     string `json:"zip"`    // yes if the zip was fetched; no if it is too large for the budget
	Truth   string `json:"truth"`  // who says what the right bytes are: database, majority, nobody
	Newest  string `json:"newest"` // version that any of the mirrors lists; "" if none lists any

	often int // in how many of the rounds that count the zip is fetched
}

// Database is the checksum database as it is from here.
type Database struct {
	Name   string `json:"name"`   // "" if there is none
	Direct string `json:"direct"` // yes if it can be reached without a mirror; else no, or unasked
	Text   string `json:"text"`   // why not
}

// Measured is what is known of a mirror.
type Measured struct {
	Rank     int          `json:"rank"` // 1 is the best
	Name     string       `json:"name"`
	URL      string       `json:"url"` // without credentials
	From     string       `json:"from"`
	Note     string       `json:"note"`
	Verdict  Verdict      `json:"verdict"`
	Also     []Verdict    `json:"also"` // what else is the matter
	Text     string       `json:"text"` // the verdict in a sentence
	Code     finding.Code `json:"code"` // of what fails; "" if nothing does
	Evidence []string     `json:"evidence"`

	// Requests are those of the rounds that count, or where they brought too little for a
	// verdict, all.
	Requests int       `json:"requests"`
	Failed   int       `json:"failed"`
	Lost     int       `json:"lost"`     // of the failed ones, those that succeeded at other times: all but the gaps
	Failures []Failure `json:"failures"` // all, also those of warming up; most frequent first
	Gaps     []Gap     `json:"gaps"`     // what never came, from a mirror that serves other things

	Latency    Figure  `json:"latency_ms"`    // of a small file over a connection that is there
	Throughput Figure  `json:"mb_per_second"` // of the largest zip of the sample
	Cost       Figure  `json:"cost_s"`        // what the ranking goes by
	Stages     Stages  `json:"stages"`        // of a new connection
	Series     Series  `json:"values"`        // what the medians are of
	Lists      Lists   `json:"lists"`         //
	Checked    Checked `json:"checked"`       //
	SumDB      string  `json:"sumdb"`         // yes, no, wrong, unknown, unasked
	Range      string  `json:"range"`         // the same
	Bytes      int64   `json:"bytes"`         // that came
	Seconds    float64 `json:"seconds"`       // that requests took, warming up included
	Stopped    string  `json:"stopped"`       // why it was not asked to the end; "" if it was

	full   string    // URL with its credentials
	losses []Failure // the kinds of Lost, or of all failures of a dead one; most frequent first
	only   bool      // a dead one gives lists
}

// A Failure is one way in which requests failed.
type Failure struct {
	Code  finding.Code `json:"code"`
	Text  string       `json:"text"` // of the first
	Count int          `json:"count"`
}

// A Gap is a list or file that a mirror never gave, and always failed at in the same way.
type Gap struct {
	File  string       `json:"file"`
	Code  finding.Code `json:"code"`
	Text  string       `json:"text"` // of the first failure
	Tries int          `json:"tries"`
}

// Stages are the steps to a first answer, in milliseconds.
type Stages struct {
	Name    Figure `json:"name_ms"` // looking it up
	Connect Figure `json:"connect_ms"`
	TLS     Figure `json:"tls_ms"`
	Answer  Figure `json:"answer_ms"` // from the request to the first byte
}

// Series are the values themselves, in the order in which they were measured.
type Series struct {
	Latency    []float64 `json:"latency_ms"`
	Throughput []float64 `json:"mb_per_second"`
}

// Lists is how the lists of a mirror compare with those of all.
type Lists struct {
	Compared int      `json:"compared"` // modules
	Behind   int      `json:"behind"`   // modules of which the mirror lacks the newest version
	Missing  []string `json:"missing"`  // M@V, newest versions and sampled ones that it lacks
}

// Checked is how many files had the hashes that belong to them.
type Checked struct {
	Right     int `json:"right"`
	Wrong     int `json:"wrong"`
	Unchecked int `json:"unchecked"` // since nobody knows what is right
}

// Recommended is who is to be used.
type Recommended struct {
	Mirrors []string `json:"mirrors"` // URLs without credentials, the best first
	GOPROXY string   `json:"goproxy"` // without credentials; "" if none is recommended
	Command string   `json:"command"` // that makes it so; with xxxxx for credentials of mirrors that are not of the settings
	Text    string   `json:"text"`    // why, or why none
}
