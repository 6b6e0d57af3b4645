//go:build unix

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALinkToAReportStaysALinkAndWhatItLeadsToIsWritten(t *testing.T) {
	for _, p := range []product{benchPage, doctorReport, rescueRecord} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "shelf"), 0o777); err != nil {
			t.Fatal(err)
		}
		e := &env{dir: dir}
		for link, to := range map[string]string{"now": "shelf/there", "chain": "now", "later": "shelf/not-yet", "far": filepath.Join(dir, "shelf", "far")} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "shelf", "there"), []byte(p.begins[0]+" of yesterday"), 0o666); err != nil {
			t.Fatal(err)
		}
		for link, to := range map[string]string{"now": "there", "chain": "there", "later": "not-yet", "far": "far"} {
			text := p.begins[0] + " by " + link
			err := p.write(e, link, func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", link, err)
			}
			if info, err := os.Lstat(filepath.Join(dir, link)); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("%s is no link any more", link)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "shelf", to)); err != nil || string(got) != text {
				t.Errorf("by %s, %s is %q, %v", link, to, got, err)
			}
		}
		for _, d := range []string{dir, filepath.Join(dir, "shelf")} {
			if left, _ := filepath.Glob(filepath.Join(d, ".sluice-*")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		}
		// What cannot be followed is said as the user named it.
		for link, to := range map[string]string{"round": "round", "lost": "nowhere/report"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
			err := p.write(e, link, func(w io.Writer) error { return nil })
			if err == nil || !strings.Contains(err.Error(), "the "+p.what+" cannot be written: "+link+": ") || strings.Contains(err.Error(), ".sluice-") {
				t.Errorf("%s: %v", link, err)
			}
		}
	}
}

// Between the beginning and the end of a run somebody makes the link lead elsewhere, and puts
// a file of his own where it led.
func TestAFileThatALinkNoLongerLeadsToIsNotOverwritten(t *testing.T) {
	for _, p := range []product{benchPage, doctorReport, rescueRecord} {
		dir := t.TempDir()
		e := &env{dir: dir}
		link, old, mine := filepath.Join(dir, "now"), filepath.Join(dir, "old"), "module example.com/mine\n"
		if err := os.Symlink("old", link); err != nil {
			t.Fatal(err)
		}
		err := p.write(e, "now", func(w io.Writer) error {
			if err := os.WriteFile(old, []byte(mine), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("new", link); err != nil {
				t.Fatal(err)
			}
			_, err := io.WriteString(w, p.begins[0])
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "the "+p.what+" cannot be written: now is there already") {
			t.Errorf("%s: %v", p.what, err)
		}
		if got, err := os.ReadFile(old); err != nil || string(got) != mine {
			t.Errorf("%s: the file is %q, %v", p.what, got, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".sluice-*")); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	}
}
