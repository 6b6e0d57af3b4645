package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Small files of ours say themselves whether they are whole: one flipped bit in
// a Record could make a good zip look damaged, or a wrong one pinned.

// sealed is the form of Records and of the sums of checksum database files.
// Fields of a later version in Value do not break the check.
type sealed struct {
	Value json.RawMessage `json:"value"`
	Check string          `json:"check"` // sha256 of Value as it stands
}

func seal(v any) ([]byte, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(sealed{value, sha256Hex(value)})
	return append(data, '\n'), err
}

func unseal(data []byte, v any) error {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	if sha256Hex(s.Value) != s.Check {
		return errors.New("it does not agree with its own checksum")
	}
	return json.Unmarshal(s.Value, v)
}

// maxRecord bounds a sealed file: a Record is a few hundred bytes.
const maxRecord = 64 << 10

func parseRecord(data []byte) (Record, error) {
	var rec Record
	if err := unseal(data, &rec); err != nil {
		return Record{}, fmt.Errorf("its record cannot be read (%v)", err)
	}
	if rec.Size <= 0 || !isSHA256(rec.SHA256) {
		return Record{}, errors.New("its record has no size or no sha256")
	}
	rec.Time = rec.Time.UTC()
	return rec, nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && strings.ToLower(s) == s
}

// An answer's file: a line that ends in the sha256 of the rest, a line of JSON,
// and the body as it came.
const answerMagic = "sluice-answer-1 "

type answerHeader struct {
	Path   string    `json:"path"` // for people; the file's name is only a hash
	Source string    `json:"source,omitempty"`
	Time   time.Time `json:"time"`
}

func formatAnswer(path string, a Answer) ([]byte, error) {
	head, err := json.Marshal(answerHeader{path, a.Source, a.Time.UTC().Round(0)})
	if err != nil {
		return nil, err
	}
	rest := make([]byte, 0, len(head)+1+len(a.Body))
	rest = append(append(append(rest, head...), '\n'), a.Body...)
	return append([]byte(answerMagic+sha256Hex(rest)+"\n"), rest...), nil
}

// parseAnswer's error matches fs.ErrNotExist: a torn answer is as good as none.
func parseAnswer(data []byte, path string) (Answer, error) {
	bad := fmt.Errorf("store: the answer kept for %s is not whole: %w", path, fs.ErrNotExist)
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	sum, ok2 := bytes.CutPrefix(line, []byte(answerMagic))
	if !ok || !ok2 || sha256Hex(rest) != string(sum) {
		return Answer{}, bad
	}
	head, body, ok := bytes.Cut(rest, []byte("\n"))
	var h answerHeader
	if !ok || json.Unmarshal(head, &h) != nil || h.Path != path {
		return Answer{}, bad
	}
	return Answer{Body: body, Source: h.Source, Time: h.Time.UTC()}, nil
}
