package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/server"
)

const (
	// leastToken is the least length of a token that nobody guesses, in bytes.
	leastToken = 16
	// socketTime is how long this machine may take to connect to its own socket.
	socketTime = time.Second
	// moreSockets is how many processes with one id may share a directory:
	// containers often all have 1.
	moreSockets = 32
)

// readToken reads the file of admin.token_file.
func readToken(name string, log *slog.Logger) (server.Token, error) {
	if name == "" {
		return server.Token{}, nil
	}
	bad := func(format string, args ...any) (server.Token, error) {
		return server.Token{}, &exitError{status: exitMisuse, err: fmt.Errorf("admin.token_file: "+format, args...), hint: "make one with: (umask 077; openssl rand -hex 32 >FILE)"}
	}
	secret, err := tokenIn(name, func(mode fs.FileMode) {
		log.Warn("other users may read the token of the API", slog.String("file", name), slog.String("mode", fmt.Sprintf("%04o", mode)), slog.String("mend", "chmod 600 "+name))
	})
	switch {
	case err != nil:
		return bad("%w", err)
	case len(secret) < leastToken:
		return bad("the token in %s has %d characters, and one of less than %d can be guessed", name, len(secret), leastToken)
	}
	return server.TokenOf(secret), nil
}

// tokenIn is the token that a file holds.
func tokenIn(name string, open func(fs.FileMode)) (string, error) {
	data, mode, err := readSecret(name)
	secret := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", fmt.Errorf("the file cannot be read: %w", err)
	case secret == "":
		return "", fmt.Errorf("the file %s is empty", name)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("what %s holds is no token: it has more than one line, or characters that no header can have", name)
	}
	if mode.Perm()&0o077 != 0 {
		open(mode.Perm())
	}
	return secret, nil
}

// sockets lists the local sockets of servers on a data directory, also dead ones.
func sockets(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(escapeGlob(dir), ".sluice", "admin-*.sock"))
	return list
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`).Replace(s)
}

// reach says why no server can be reached behind a socket: nobody listens there
// (ECONNREFUSED), or this user may not (fs.ErrPermission).
func reach(socket string) error {
	c, err := net.DialTimeout("unix", socket, socketTime)
	if err == nil {
		c.Close()
	}
	return err
}

// serveAdmin serves the API on a local socket until ctx ends. Without one it
// warns, and serving modules goes on.
func (w *world) serveAdmin(ctx context.Context, srv *server.Server) {
	if w.store.Writable() != nil {
		return // that nothing can be written was told
	}
	ln, name, err := listenAdmin(w.store.Dir())
	if err != nil {
		w.log.Warn("there is no local socket, so sluice switch and sluice sources do not reach this server that way", slog.Any("err", err))
		return
	}
	defer os.Remove(name)
	if err := srv.ServeAdmin(ctx, ln); err != nil {
		w.log.Error("the local socket is gone", slog.String("socket", name), slog.Any("err", err))
	}
}

// listenAdmin listens on a local socket of the data directory, after having
// removed those of dead processes.
func listenAdmin(dir string) (net.Listener, string, error) {
	for _, s := range sockets(dir) {
		if errors.Is(reach(s), syscall.ECONNREFUSED) {
			os.Remove(s)
		}
	}
	longest := 103
	if runtime.GOOS == "linux" {
		longest = 107
	}
	ours := filepath.Join(dir, ".sluice")
	// The socket must be nobody else's from its first moment on: it is made where
	// only we may look, and then moved.
	tmp, err := os.MkdirTemp(ours, "s")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(tmp)
	for n := range moreSockets {
		name := filepath.Join(ours, fmt.Sprintf("admin-%d.sock", os.Getpid()))
		if n > 0 {
			name = filepath.Join(ours, fmt.Sprintf("admin-%d.%d.sock", os.Getpid(), n))
		}
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if len(name) > longest {
			return nil, "", fmt.Errorf("the path %s has %d bytes, and a socket's has at most %d; choose a shorter data directory, or set admin.token_file and use --server", name, len(name), longest)
		}
		first := filepath.Join(tmp, "s")
		ln, err := net.Listen("unix", first)
		if err != nil {
			return nil, "", err
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		if err = os.Chmod(first, 0o600); err == nil {
			err = os.Rename(first, name)
		}
		if err != nil {
			ln.Close()
			return nil, "", err
		}
		return ln, name, nil
	}
	return nil, "", fmt.Errorf("%d servers with this process id use %s already", moreSockets, dir)
}
