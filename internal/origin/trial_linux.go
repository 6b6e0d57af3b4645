package origin

import "syscall"

// dieWithUs makes the kernel end the command when the thread that starts it does.
func (g *group) dieWithUs() { g.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM }
