package explain

import (
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
)

func TestOutputsThatWerePostedInPublicAreExplained(t *testing.T) {
	score(t, reports(t, "testdata/public.txtar"))
}

func TestWhatTheGoCommandsOwnTestsMakeItPrintIsExplained(t *testing.T) {
	score(t, reports(t, "testdata/go-scripts.txtar"))
}

// A script that waits for its services tries several ports of one machine: what the
// database's says must not hide what the proxy's says.
func TestTwoPortsOfOneMachineAreTwoServices(t *testing.T) {
	wait := "waiting: dial tcp 10.0.0.5:5432: connect: connection refused\n"
	r := Text(strings.Repeat(wait, 3) + "waiting: dial tcp 10.0.0.5:8443: connect: connection refused\n")
	if r.Cause != "connection-refused" || !strings.Contains(r.Line, ":8443") {
		t.Errorf("%q by line %d %q", r.Cause, r.Number, r.Line)
	}
	if r := Text(strings.Repeat(wait, 3)); r.Cause != "not-a-module-problem" {
		t.Errorf("a database alone: %q", r.Cause)
	}
}

// A question is not yet a failure, and who could not answer it says more.
func TestAQuestionForAPassphraseIsNotSure(t *testing.T) {
	const ask = "Enter passphrase for key '/home/dev/.ssh/id_ed25519': \n"
	if r := Text(ask); r.Cause != "git-ssh-publickey" || r.Confidence == finding.High {
		t.Errorf("%q, %s", r.Cause, r.Confidence)
	}
	if r := Text(ask + "verifying github.com/acme/kit@v1.0.0: checksum mismatch\n\tdownloaded: h1:a\n\tgo.sum:     h1:b\n"); r.Cause != "checksum-mismatch-gosum" {
		t.Errorf("answered: %q by %q", r.Cause, r.Line)
	}
}
