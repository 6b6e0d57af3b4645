package goenv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// EditFile is the text of a go env -w file after variables were set and unset in it, as
// "go env -w" and "go env -u" leave it: lines that are not concerned stay byte for byte,
// with comments in their places; of a variable that is there twice the last line stays;
// a block of variables is sorted. It fails for a value that the go command would not write.
//
// The rules come from cmd/go/internal/envcmd (updateEnvFile, checkEnvWrite).
func EditFile(data []byte, set map[string]string, unset []string) ([]byte, error) {
	for name, value := range set {
		if err := checkWrite(name, value); err != nil {
			return nil, err
		}
	}
	lines := strings.SplitAfter(string(data), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines[last] += "\n"
	}
	at := map[string]int{}
	for i, line := range lines {
		if key := lineKey(line); key != "" {
			if before, ok := at[key]; ok {
				lines[before] = ""
			}
			at[key] = i
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if i, ok := at[name]; ok {
			lines[i] = name + "=" + set[name] + "\n"
		} else {
			lines = append(lines, name+"="+set[name]+"\n")
		}
	}
	for _, name := range unset {
		if i, ok := at[name]; ok {
			lines[i] = ""
		}
	}
	begin := 0
	for i := 0; i <= len(lines); i++ {
		if i == len(lines) || lineKey(lines[i]) == "" {
			slices.SortStableFunc(lines[begin:i], func(a, b string) int { return strings.Compare(lineKey(a), lineKey(b)) })
			begin = i + 1
		}
	}
	return []byte(strings.Join(lines, "")), nil
}

// lineKey is what stands before the = of a line, "" if the line sets nothing.
func lineKey(line string) string {
	key, _, ok := strings.Cut(line, "=")
	if !ok || strings.Contains(key, "#") {
		return ""
	}
	return key
}

func checkWrite(name, value string) error {
	switch {
	case name == "GOENV":
		return errors.New("GOENV cannot be set in the file that it names")
	case !slices.Contains(Names(), name):
		return fmt.Errorf("%s is no setting of the go command's modules", quoteName(name))
	case !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\v\r\n"):
		return fmt.Errorf("the value for %s has a character that a go env file cannot hold", name)
	}
	return nil
}

// MendFile is the text of a go env -w file with those lines put right that do not do what
// they seem to do, as the Problems of Load name them: what was meant is written as the go
// command reads it, and what can never mean anything is left out. What is in force
// otherwise, comments and blank lines stay byte for byte. Nothing is guessed of a value
// that is no text.
func MendFile(data []byte) []byte {
	var lines []string
	set := map[string]bool{} // by a line that the go command reads as it stands
	for raw := range bytes.Lines(data) {
		lines = append(lines, string(raw))
		if name, _, ok := strings.Cut(string(raw), "="); ok && plainName(name) {
			set[name] = true
		}
	}
	last := map[string]int{} // name → the line that counts
	for i, raw := range lines {
		lines[i] = mendLine(raw, set)
		if name, _, ok := strings.Cut(lines[i], "="); ok && plainName(name) {
			if before, twice := last[name]; twice {
				lines[before] = ""
			}
			last[name] = i
		}
	}
	return []byte(strings.Join(lines, ""))
}

func plainName(name string) bool {
	return name != "" && 'A' <= name[0] && name[0] <= 'Z' && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// mendLine is one line put right, with its newline; "" if nothing is to be left of it.
func mendLine(raw string, set map[string]bool) string {
	line, newline := strings.CutSuffix(raw, "\n")
	end := ""
	if newline {
		end = "\n"
	}
	name, value, ok := strings.Cut(line, "=")
	if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
		return raw
	}
	if !ok || name == "" || name[0] < 'A' || 'Z' < name[0] {
		meant, why := ignoredLine(line, ok)
		switch {
		case why == "":
			return raw // a comment, or blank
		case !slices.Contains(Names(), meant) || meant == "GOENV" || set[meant]:
			return ""
		}
		return meant + "=" + meantValue(value) + end
	}
	switch trimmed := strings.TrimSpace(name); {
	case name == "GOENV":
		return ""
	case trimmed != name && set[trimmed]:
		return ""
	case trimmed != name && !slices.Contains(Names(), trimmed):
		return raw // perhaps somebody else reads it
	default:
		if meant := meantValue(value); meant != value || trimmed != name {
			return trimmed + "=" + meant + end
		}
	}
	return raw
}

// meantValue is a value without what people write around it and the go command takes for
// a part of it: a comment, spaces, quotes, the carriage return of Windows.
func meantValue(value string) string {
	for {
		v, _, _ := strings.Cut(value, " #")
		v = strings.TrimSpace(v)
		if len(v) > 1 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
			v = v[1 : len(v)-1]
		}
		if v == value {
			return v
		}
		value = v
	}
}
