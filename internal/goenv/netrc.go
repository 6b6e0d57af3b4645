package goenv

import "strings"

// NetrcLogin is the login and password that the text of a netrc file has for a host,
// which is one with its port where the URL has a port. As for the go command, an
// entry without a login or without a password is none, and the first one counts.
//
// The rules come from cmd/go/internal/auth/netrc.go.
func NetrcLogin(text, host string) (login, password string, ok bool) {
	var machine string
	macro := false
	for line := range strings.SplitSeq(text, "\n") {
		if macro {
			macro = line != ""
			continue
		}
		f := strings.Fields(line)
		i := 0
		for ; i < len(f)-1; i += 2 {
			switch f[i] {
			case "machine":
				machine, login, password = f[i+1], "", ""
			case "login":
				login = f[i+1]
			case "password":
				password = f[i+1]
			case "macdef":
				macro = true
			}
			if machine != "" && login != "" && password != "" {
				if machine == host {
					return login, password, true
				}
				machine, login, password = "", "", ""
			}
		}
		if i < len(f) && f[i] == "default" {
			break // nothing is read behind it
		}
	}
	return "", "", false
}
