//go:build unix

package modtest

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

func TestWhatATestStartsHearsSignalsThatWereSwitchedOff(t *testing.T) {
	// As a shell does before it starts something in the background.
	switched := []os.Signal{os.Interrupt, syscall.SIGHUP}
	signal.Ignore(switched...)
	defer signal.Reset(switched...)
	dies := func(sig string) bool { return exec.Command("sh", "-c", "kill -"+sig+" $$").Run() != nil }
	for _, sig := range []string{"INT", "HUP"} {
		if dies(sig) {
			t.Errorf("%s is not switched off, so this is no test", sig)
		}
	}
	for range 2 { // each test may ask for it
		HearSignals()
		for _, sig := range []string{"INT", "HUP"} {
			if !dies(sig) {
				t.Errorf("what a test starts does not hear %s", sig)
			}
		}
	}
}
