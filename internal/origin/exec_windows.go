package origin

import (
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// A group is a command and all processes that it starts, in a job object.
type group struct {
	cmd *exec.Cmd
	job windows.Handle // 0 if there is none
}

func newGroup(cmd *exec.Cmd) *group {
	g := &group{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW}
	cmd.Cancel = func() error {
		g.end(true)
		return cmd.Process.Kill()
	}
	return g
}

// start starts the command and puts it into a job object that dies with us. A
// child that it starts before it is in there escapes; no command of ours is so fast.
func (g *group) start() error {
	if job, err := windows.CreateJobObject(nil, nil); err == nil {
		info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
		info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
		windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
		g.job = job
	}
	if err := g.cmd.Start(); err != nil {
		return err
	}
	if g.job != 0 {
		if p, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(g.cmd.Process.Pid)); err == nil {
			windows.AssignProcessToJobObject(g.job, p)
			windows.CloseHandle(p)
		}
	}
	return nil
}

func (g *group) end(bool) {
	if g.job != 0 {
		windows.TerminateJobObject(g.job, 1)
	}
}

func (g *group) close() {
	if g.job != 0 {
		windows.CloseHandle(g.job)
	}
}
