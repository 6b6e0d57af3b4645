package origin

import "os"

// Windows has no gentler way for a process that may have no console.
func askToEnd(p *os.Process) error { return p.Kill() }

// passOn: the console sends its events to all its processes, and there is no
// other signal that could be sent on.
func passOn(os.Signal) bool { return false }

func exitStatus(s *os.ProcessState) int { return s.ExitCode() }
