package modtest

import (
	"os"
	"os/signal"
	"syscall"
)

// HearSignals lets the programs that a test starts hear Ctrl-C and a hang-up. Who starts
// the tests by nohup, or in the background of a script, has switched these off, also for
// what they start: a program that leaves it at that, as Sluice does, would never hear of
// the interrupt that is being tested. It stays so until the tests end.
func HearSignals() {
	heard := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(heard, sig)
		}
	}
}
