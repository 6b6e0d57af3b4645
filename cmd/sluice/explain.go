package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/origin"
)

// explainFlags are the flags of explain.
type explainFlags struct {
	json, records, last, run, codes bool
	place                           string
}

func newExplain(e *env) *cobra.Command {
	var o explainFlags
	cmd := &cobra.Command{
		Use:   "explain [FILE... | CODE...] [--last | --run -- COMMAND]",
		Short: "Say what the output of a failed build means, and what mends it",
		Long: `Explain reads what go, git or a CI system printed, from a file, from a pipe, from the
last failed command of sluice run (--last), or from a command that it runs itself
(--run), and says the one root cause, the line that shows it, how sure that is, and
what mends it. It asks nobody and changes nothing.

What nothing in the text decides is called unknown. A failure that has nothing to do
with obtaining modules is called that, and gets no fix.

For a finding code, such as SL-DNS-001, it prints the page of that code.

A terminal keeps what it shows to itself: pipe the output (go build ./... 2>&1 |
sluice explain), or let explain run the command, which then writes to a pipe.

Exit status: 0 explained, 1 unknown, or there was nothing to read, 2 misused; with
--run that of the command.`,
		Example: "  go build ./... 2>&1 | sluice explain\n  sluice explain --json job.log\n  sluice explain --run -- go mod download\n  sluice explain SL-TLS-001 --for dockerfile",
		Args:    func(cmd *cobra.Command, args []string) error { return o.check(e, cmd, args) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, entry := range finding.Catalogue() {
				if strings.HasPrefix(string(entry.Code), strings.ToUpper(prefix)) {
					codes = append(codes, string(entry.Code)+"\t"+entry.Title)
				}
			}
			return codes, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runExplain(cmd.Context(), e, cmd, o, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print an object with cause, code, line, host, module, fix and confidence; of several texts one a line")
	f.BoolVar(&o.records, "records", false, "each line read is a JSON object with a text as log, and perhaps an id; implies --json")
	f.BoolVar(&o.last, "last", false, "explain what sluice run kept of its last command that failed")
	f.BoolVar(&o.run, "run", false, "run the command after --, and explain it if it fails")
	f.BoolVar(&o.codes, "codes", false, "list all finding codes")
	var names []string
	for _, p := range finding.Places() {
		names = append(names, string(p))
	}
	f.Var(&textFlag{kind: strings.Join(names, "|")}, "for", "write the fix for this place (default: as the text shows, else the terminal)")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	f.Var(&textFlag{kind: "file"}, "config", "configuration file (TOML), for --last; SLUICE_CONFIG names it too")
	cmd.MarkFlagFilename("config", "toml")
	for _, k := range config.Keys() {
		if k.Name == "data" {
			f.Var(&textFlag{kind: string(k.Kind)}, k.Flag(), "directory of the store, for --last")
			cmd.MarkFlagDirname(k.Flag())
		}
	}
	return cmd
}

var codeShape = regexp.MustCompile(`^(?i:sl)-[A-Za-z]+-[0-9]+$`)

// check says what is wrong with the command line.
func (o *explainFlags) check(e *env, cmd *cobra.Command, args []string) error {
	o.place = cmd.Flag("for").Value.String()
	if o.place != "" && !slices.Contains(finding.Places(), finding.Place(o.place)) {
		return misuse("--for %s is none of %s", o.place, cmd.Flag("for").Value.Type())
	}
	many := 0
	for _, b := range []bool{o.last, o.run, o.codes, o.records} {
		if b {
			many++
		}
	}
	switch {
	case many > 1:
		return &exitError{status: exitMisuse, err: errors.New("--last, --run, --codes and --records exclude one another"), hint: "give one of them"}
	case o.run && len(args) == 0:
		return &exitError{status: exitMisuse, err: errors.New("--run needs a command"), hint: "write sluice explain --run -- go mod download"}
	case (o.last || o.codes) && len(args) > 0:
		return misuse("%q is one thing too much beside --last or --codes", args[0])
	case len(args) == 0 && !o.last && !o.codes && term.IsTerminal(int(e.stdin.Fd())):
		return &exitError{status: exitMisuse, err: errors.New("explain needs something to read"),
			hint: "write go build ./... 2>&1 | sluice explain, or sluice explain FILE, --last, or --run -- COMMAND"}
	}
	if o.run {
		return nil
	}
	for _, a := range args {
		if !codeShape.MatchString(a) {
			continue
		}
		if _, err := os.Stat(a); err == nil {
			continue
		}
		if _, ok := finding.Lookup(finding.Code(strings.ToUpper(a))); !ok {
			return &exitError{status: exitMisuse, err: fmt.Errorf("there is no finding code %s", strings.ToUpper(a)), hint: "sluice explain --codes lists them"}
		}
	}
	return nil
}

// explained is what explain --json prints of one text.
type explained struct {
	// ID is that of a record: a string, or a number as it was written.
	ID         json.RawMessage `json:"id,omitempty"`
	File       string          `json:"file,omitempty"` // where the text is from, if there are several
	Cause      string          `json:"cause"`          // a label, or unknown
	Code       string          `json:"code"`           // "" if unknown
	Title      string          `json:"title"`          // what the code means
	Line       string          `json:"line"`           // the deciding line
	Number     int             `json:"number"`         // its number in the text, from 1; 0 if there is none
	Host       string          `json:"host"`
	Module     string          `json:"module"`
	Version    string          `json:"version"`
	Fix        string          `json:"fix"`             // what to do; "" if there is nothing
	Commands   []string        `json:"commands"`        // that do it
	Confidence string          `json:"confidence"`      // high, medium, low, or none if unknown
	Place      string          `json:"place"`           // for which the commands are written
	Error      string          `json:"error,omitempty"` // why the text could not be read
}

const causeUnknown = "unknown"

// here is the place that commands are written for where nothing else says so.
func here() finding.Place {
	if runtime.GOOS == "windows" {
		return finding.PowerShell
	}
	return finding.Terminal
}

// told is r for JSON, and for the eye.
func (o explainFlags) told(r explain.Result) (explained, finding.Finding) {
	place := r.Place
	if o.place != "" {
		place = finding.Place(o.place)
	}
	if place == "" {
		place = here()
	}
	f := r.In(place)
	x := explained{Cause: causeUnknown, Confidence: "none", Commands: []string{}, Place: string(place)}
	if r.Known() {
		x = explained{Cause: string(f.Cause), Code: string(f.Code), Title: f.Title, Line: r.Line, Number: r.Number, Host: r.Host, Module: r.Module, Version: r.Version,
			Fix: f.Mend, Commands: append([]string{}, f.Fix...), Confidence: string(f.Confidence), Place: string(place)}
	}
	return x, f
}

func runExplain(ctx context.Context, e *env, cmd *cobra.Command, o explainFlags, args []string) error {
	switch {
	case o.codes:
		return e.listCodes(o)
	case o.run:
		return e.explainRun(ctx, o, args)
	case o.last:
		return e.explainLast(cmd, o)
	case o.records:
		return e.explainRecords(ctx, o, args)
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	status := exitYes
	for _, name := range args {
		if code := finding.Code(strings.ToUpper(name)); codeShape.MatchString(name) {
			if p, ok := finding.PageOf(code); ok {
				if _, err := os.Stat(name); err != nil {
					if err := e.showPage(o, p, len(args) > 1); err != nil {
						return err
					}
					continue
				}
			}
		}
		r, err := e.explainFile(ctx, name)
		if empty, ok := errors.AsType[*emptyError](err); ok && len(args) == 1 && !o.json {
			return &exitError{status: exitNo, err: empty, hint: "a command that works prints nothing; errors go to stderr, so write go build ./... 2>&1 | sluice explain"}
		} else if ok && o.json {
			err = nil // the object says unknown
		}
		if err != nil && (len(args) == 1 || ctx.Err() != nil) {
			return err
		}
		x, f := o.told(r)
		if len(args) > 1 {
			x.File = name
		}
		if err != nil {
			x.Error = finding.Redact(err.Error())
			e.say("error: %v", err)
		}
		if !r.Known() {
			status = exitNo
		}
		switch {
		case o.json && len(args) > 1:
			err = writeJSONLine(e.stdout, x)
		case o.json:
			err = writeJSON(e, x)
		case err == nil:
			if len(args) > 1 {
				fmt.Fprintf(e.stdout, "== %s\n", finding.OneLine(name, 300))
			}
			_, err = io.WriteString(e.stdout, wordsOf(x, f))
		default:
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if status != exitYes {
		return &exitError{status: status}
	}
	return nil
}

// explainFile explains a file, or stdin as "-".
func (e *env) explainFile(ctx context.Context, name string) (explain.Result, error) {
	var in io.Reader = e.stdin
	if name != "-" {
		f, err := e.open(name)
		if err != nil {
			return explain.Result{}, err
		}
		defer f.Close()
		in = f
	}
	text := &filled{r: interrupted{ctx, in}}
	r, err := explain.Read(text)
	switch {
	case err != nil && ctx.Err() == nil:
		err = fmt.Errorf("the text cannot be read: %w", err)
	case err == nil && !text.some:
		err = &emptyError{name}
	}
	return r, err
}

// An emptyError says that a text has nothing in it.
type emptyError struct{ name string }

func (e *emptyError) Error() string {
	if e.name == "-" {
		return "there is nothing to explain: what was read is empty"
	}
	return "there is nothing to explain: " + shownName(e.name) + " is empty"
}

// filled takes note of whether what is read has anything in it.
type filled struct {
	r    io.Reader
	some bool
}

func (f *filled) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.some = f.some || len(bytes.TrimSpace(p[:n])) > 0
	return n, err
}

// open opens a file to be read; the error is one of misuse.
func (e *env) open(name string) (*os.File, error) {
	p := name
	if !filepath.IsAbs(p) {
		p = filepath.Join(e.dir, p)
	}
	f, err := os.Open(p)
	if err == nil {
		info, statErr := f.Stat()
		if statErr != nil || !info.IsDir() {
			return f, nil
		}
		f.Close()
		err = errors.New("it is a directory")
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return nil, &exitError{status: exitMisuse, err: fmt.Errorf("the text of %s cannot be read: %w", shownName(name), err), hint: "give a file, a finding code, or - for stdin"}
}

// shownName is the name of a file as a terminal may be sent it.
func shownName(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name {
		return q
	}
	return name
}

// interrupted is a reader that ends with its context, as soon as a read comes back.
type interrupted struct {
	ctx context.Context
	r   io.Reader
}

func (i interrupted) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	type got struct {
		n   int
		err error
		buf []byte
	}
	ch := make(chan got, 1)
	// A read of a pipe or terminal cannot be taken back; it is left behind when the
	// program ends.
	buf := make([]byte, len(p))
	go func() {
		n, err := i.r.Read(buf)
		ch <- got{n, err, buf}
	}()
	select {
	case g := <-ch:
		return copy(p, g.buf[:g.n]), g.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}

func writeJSONLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// wordsOf is what is said of one text.
func wordsOf(x explained, f finding.Finding) string {
	var b strings.Builder
	if x.Code == "" {
		b.WriteString("unknown: nothing in this text says why it failed\n  hint: give all of the output, the first lines too; sluice trace MODULE@VERSION measures what a download does\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%s (%s, %s)\n", x.Title, x.Code, x.Cause)
	fmt.Fprintf(&b, "  line %d: %s\n", x.Number, x.Line)
	fmt.Fprintf(&b, "  %s\n", f.Why)
	if x.Confidence != string(finding.High) {
		fmt.Fprintf(&b, "  confidence: %s; another cause is possible\n", x.Confidence)
	}
	if x.Fix != "" {
		where := ""
		if p := finding.Place(x.Place); p != finding.Terminal {
			where = " (" + p.Title() + ")"
		}
		fmt.Fprintf(&b, "  fix%s: %s\n", where, x.Fix)
		for _, c := range x.Commands {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(c, "\n", "\n    "))
		}
	}
	return b.String()
}

// record is a line of --records.
type record struct {
	ID   json.RawMessage `json:"id"` // a string or a number
	Log  string          `json:"log"`
	Text string          `json:"text"` // in place of log
}

// id is the ID as it is printed, or nil if there is none.
func (r record) id() (json.RawMessage, error) {
	var s string
	switch {
	case len(r.ID) == 0 || string(r.ID) == "null":
		return nil, nil
	case r.ID[0] == '-' || '0' <= r.ID[0] && r.ID[0] <= '9':
		return r.ID, nil
	case json.Unmarshal(r.ID, &s) != nil:
		return nil, errors.New("its id is neither a string nor a number")
	case s == "":
		return nil, nil
	}
	return json.Marshal(finding.OneLine(s, 300))
}

// jsonMistake says what is wrong with a JSON text, without what only its reader knows.
func jsonMistake(err error) string {
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("at byte %d, %s", se.Offset, se.Error())
	}
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
		return fmt.Sprintf("its %s is a JSON %s, and has to be a string", te.Field, te.Value)
	} else if ok {
		return "it is a JSON " + te.Value
	}
	return err.Error()
}

// maxRecord is of how many bytes a line of --records may be.
const maxRecord = 256 << 20

func (e *env) explainRecords(ctx context.Context, o explainFlags, args []string) error {
	if len(args) == 0 {
		args = []string{"-"}
	}
	status := exitYes
	for _, name := range args {
		in := io.Reader(e.stdin)
		if name != "-" {
			f, err := e.open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		sc := bufio.NewScanner(interrupted{ctx, in})
		sc.Buffer(nil, maxRecord)
		n := 0
		for sc.Scan() {
			n++
			if len(bytes.TrimSpace(sc.Bytes())) == 0 {
				continue
			}
			var rec record
			var err error
			if err = json.Unmarshal(sc.Bytes(), &rec); err != nil {
				return misuse("%s: line %d is no JSON object with a log: %s", shownName(name), n, jsonMistake(err))
			}
			x, _ := o.told(explain.Text(rec.Log + rec.Text))
			if x.ID, err = rec.id(); err != nil {
				return misuse("%s: line %d: %w", shownName(name), n, err)
			}
			if x.Code == "" {
				status = exitNo
			}
			if err := writeJSONLine(e.stdout, x); err != nil {
				return err
			}
		}
		if err := sc.Err(); err != nil {
			return fmt.Errorf("%s: after line %d: %w", shownName(name), n, err)
		}
	}
	if status != exitYes {
		return &exitError{status: status}
	}
	return nil
}

func (e *env) listCodes(o explainFlags) error {
	if o.json {
		var all []page
		for _, entry := range finding.Catalogue() {
			p, _ := finding.PageOf(entry.Code)
			all = append(all, pageOf(p))
		}
		return writeJSON(e, all)
	}
	var b strings.Builder
	for _, entry := range finding.Catalogue() {
		fmt.Fprintf(&b, "%-12s %-27s %s\n", entry.Code, entry.Cause, entry.Title)
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// page is the page of a code as JSON.
type page struct {
	Code     string            `json:"code"`
	Cause    string            `json:"cause"`
	Family   string            `json:"family"`
	Severity string            `json:"severity"`
	Title    string            `json:"title"`
	Why      string            `json:"why"`
	Evidence string            `json:"evidence"`
	Fix      string            `json:"fix"`
	Fixes    []finding.InPlace `json:"fixes"`
	Success  string            `json:"success"`
}

func pageOf(p finding.Page) page {
	return page{string(p.Code), string(p.Cause), p.Cause.Family(), string(p.Severity), p.Title, p.Why, p.Evidence, p.Mend, append([]finding.InPlace{}, p.Fixes...), p.Success}
}

// showPage prints what the catalogue says of one code, which may be one of many.
func (e *env) showPage(o explainFlags, p finding.Page, many bool) error {
	if o.place != "" {
		p.Fixes = slices.DeleteFunc(p.Fixes, func(f finding.InPlace) bool { return f.Place != finding.Place(o.place) })
	} else if i := slices.IndexFunc(p.Fixes, func(f finding.InPlace) bool { return f.Place == here() }); i > 0 {
		first := p.Fixes[i]
		p.Fixes = slices.Insert(slices.Delete(p.Fixes, i, i+1), 0, first)
	}
	if o.json && many {
		return writeJSONLine(e.stdout, pageOf(p))
	} else if o.json {
		return writeJSON(e, pageOf(p))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n  cause:    %s\n  severity: %s\n\n  %s\n\n  seen by:  %s\n", p.Code, p.Title, p.Cause, p.Severity, p.Why, p.Evidence)
	if p.Mend != "" {
		fmt.Fprintf(&b, "\n  fix: %s\n", p.Mend)
	}
	for i, f := range p.Fixes {
		if i > 0 && slices.Equal(f.Lines, p.Fixes[0].Lines) {
			continue
		}
		fmt.Fprintf(&b, "\n    %s\n", f.Place.Title())
		for _, l := range f.Lines {
			fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(l, "\n", "\n      "))
		}
	}
	fmt.Fprintf(&b, "\n  mended:   %s\n", p.Success)
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// explainRun runs a command with its output passed on as it comes, and explains it
// if it fails. The exit status is the command's.
func (e *env) explainRun(ctx context.Context, o explainFlags, args []string) error {
	sig := make(chan os.Signal, 8)
	notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sig)
	var kept keeper
	out, outTap, err := kept.tap(e.rawStdout())
	if err != nil {
		return err
	}
	errOut, errTap, err := kept.tap(e.stderr)
	if err != nil {
		return err
	}
	if o.json {
		// The object has stdout for itself.
		outTap.end()
		if out, outTap, err = kept.tap(e.stderr); err != nil {
			return err
		}
	}
	status, err := origin.Run(context.WithoutCancel(ctx), origin.Child{
		Args: args, Environ: e.environ, Dir: e.dir, Stdin: e.stdin, Stdout: out, Stderr: errOut, Signals: sig,
	})
	outTap.end()
	errTap.end()
	if err != nil {
		return &exitError{status: max(status, exitNo), err: err}
	}
	if status == 0 && !o.json {
		return nil
	}
	if ctx.Err() != nil && !o.json {
		return &exitError{status: status} // somebody has ended it, and knows why
	}
	r, err := explain.Read(bytes.NewReader(kept.bytes()))
	if err != nil {
		return err
	}
	x, f := o.told(r)
	if o.json {
		err = writeJSON(e, x)
	} else {
		e.tell(wordsOf(x, f))
	}
	if err == nil && status != 0 {
		err = &exitError{status: status}
	}
	return err
}

// tell says several lines below what a command printed.
func (e *env) tell(words string) {
	for line := range strings.Lines(words) {
		e.say("%s", strings.TrimRight(line, "\n"))
	}
}

// A lastFailure is what run keeps of the last command that failed.
type lastFailure struct {
	Time    time.Time `json:"time"`
	Command []string  `json:"command"`
	Dir     string    `json:"dir"`
	Status  int       `json:"status"`
	Output  string    `json:"output"` // redacted
}

func lastFile(data string) string { return filepath.Join(data, ".sluice", "last-failure.json") }

// secretFlag is a flag whose value is a secret, and that value as the next word.
var secretFlag = regexp.MustCompile(`(?im)((?:^|[\s"'])--?(?:password|passwd|token|secret|pass|api-?key)[ \t]+["']?)[^\s"']+`)

// keepLast writes what a command printed before it failed where explain --last
// finds it. Only the user may read it.
func keepLast(data string, l lastFailure) error {
	if data == "" {
		return errNoCacheDir
	}
	l.Output = finding.Redact(secretFlag.ReplaceAllString(strings.ToValidUTF8(l.Output, "\uFFFD"), "${1}***"))
	for i, a := range l.Command {
		l.Command[i] = finding.Redact(a)
		if i > 0 && secretFlag.MatchString(l.Command[i-1]+" x") {
			l.Command[i] = "***"
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	name := lastFile(data)
	f, err := os.CreateTemp(filepath.Dir(name), "last-failure-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (e *env) explainLast(cmd *cobra.Command, o explainFlags) error {
	l, err := e.load(cmd, nil)
	if err != nil {
		return err
	}
	text, err := readEnd(lastFile(l.Data), 8*maxKept)
	if errors.Is(err, fs.ErrNotExist) {
		return &exitError{status: exitNo, err: errors.New("sluice run has kept no failed command here"),
			hint: "it keeps what a command printed to a pipe or a file; else write sluice explain --run -- COMMAND"}
	} else if err != nil {
		return fmt.Errorf("the last failure cannot be read: %w", err)
	}
	var last lastFailure
	if err := json.Unmarshal(text, &last); err != nil {
		return fmt.Errorf("%s is damaged: %w; the next failed command replaces it", lastFile(l.Data), err)
	}
	r := explain.Text(last.Output)
	x, f := o.told(r)
	if o.json {
		err = writeJSON(e, x)
	} else {
		fmt.Fprintf(e.stdout, "%s, %s, exit status %d\n", finding.OneLine(strings.Join(last.Command, " "), 300), last.Time.Local().Format("2006-01-02 15:04:05"), last.Status)
		_, err = io.WriteString(e.stdout, wordsOf(x, f))
	}
	if err == nil && !r.Known() {
		err = &exitError{status: exitNo}
	}
	return err
}
