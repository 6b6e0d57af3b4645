// Command changelog keeps CHANGELOG.md: each change brings a file of its own, so that
// no two changes meet in one, and a release collects them.
//
//	go run ./tools/changelog -check             are the files in changes/unreleased in form?
//	go run ./tools/changelog                    print what the next release would say
//	go run ./tools/changelog -release v0.1.0    write it into CHANGELOG.md and remove the files
//
// A file is named NNNN-what.md, with a number that no other has. Its first line is
// "kind: " and one of added, changed, fixed, removed and security; then, after a blank
// line, come sentences for somebody who uses Sluice.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	logFile = "CHANGELOG.md"
	dir     = "changes/unreleased"
	marker  = "<!-- releases -->" // new releases go below this line
)

func main() {
	check := flag.Bool("check", false, "only say whether the files are in form")
	release := flag.String("release", "", "collect the files under this version, such as v0.1.0")
	flag.Parse()
	if err := run(*check, *release); err != nil {
		fmt.Fprintln(os.Stderr, "changelog:", err)
		os.Exit(1)
	}
}

func run(check bool, release string) error {
	changes, err := read(os.DirFS("."))
	if err != nil || check {
		return err
	}
	if release == "" {
		fmt.Print(section("Unreleased", changes))
		return nil
	}
	if !regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9a-z.]+)?$`).MatchString(release) {
		return fmt.Errorf("-release %s is not a version such as v0.1.0", release)
	}
	if len(changes) == 0 {
		return errors.New("there is nothing in " + dir + " to release")
	}
	old, err := os.ReadFile(logFile)
	if err != nil {
		return err
	}
	text, err := insert(old, section(release+" ("+time.Now().UTC().Format(time.DateOnly)+")", changes))
	if err != nil {
		return err
	}
	if err := os.WriteFile(logFile, text, 0o644); err != nil {
		return err
	}
	for _, c := range changes {
		if err := os.Remove(c.file); err != nil {
			return err
		}
	}
	return nil
}

// kinds are in the order in which a release lists them.
var kinds = []string{"security", "added", "changed", "fixed", "removed"}

type change struct{ file, kind, text string }

var fileForm = regexp.MustCompile(`^(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$`)

// read reads all changes, by number, or says everything that is wrong with them.
func read(tree fs.FS) (changes []change, err error) {
	files, err := fs.ReadDir(tree, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var wrong []error
	seen := map[string]string{}
	for _, f := range files {
		name := dir + "/" + f.Name()
		bad := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
		}
		m := fileForm.FindStringSubmatch(f.Name())
		if m == nil {
			bad("a change is named NNNN-what.md, in small letters")
			continue
		}
		if other, ok := seen[m[1]]; ok {
			bad("%s has this number, too; take the next free one", other)
		}
		seen[m[1]] = f.Name()
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, err
		}
		head, text, _ := strings.Cut(string(data), "\n\n")
		kind, ok := strings.CutPrefix(head, "kind: ")
		if text = strings.TrimSpace(text); !ok || !slices.Contains(kinds, kind) {
			bad("the first line must be \"kind: \" and one of %s, and a blank line must follow", strings.Join(kinds, ", "))
		} else if !strings.HasSuffix(text, ".") {
			bad("after the kind come whole sentences")
		} else if strings.Contains("\n"+text, "\n#") {
			bad("a change has no headings of its own")
		}
		changes = append(changes, change{name, kind, text})
	}
	return changes, errors.Join(wrong...)
}

// section is the text of one release: the changes as list items, by kind.
func section(title string, changes []change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n", title)
	for _, kind := range kinds {
		heading := "\n### " + strings.ToUpper(kind[:1]) + kind[1:] + "\n\n"
		for _, c := range changes {
			if c.kind == kind {
				fmt.Fprintf(&b, "%s- %s\n", heading, strings.ReplaceAll(c.text, "\n", "\n  "))
				heading = ""
			}
		}
	}
	return strings.ReplaceAll(b.String(), "\n  \n", "\n\n")
}

// insert puts a release above those that are in the changelog.
func insert(log []byte, section string) ([]byte, error) {
	head, tail, ok := bytes.Cut(log, []byte(marker+"\n"))
	if !ok {
		return nil, fmt.Errorf("%s has no line %q below which a release could go", logFile, marker)
	}
	return slices.Concat(head, []byte(marker+"\n\n"+section), tail), nil
}
