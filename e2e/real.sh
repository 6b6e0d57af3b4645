#!/usr/bin/env bash
# A real program through Sluice, then without the network: the first four lines
# of what the spine must show. It downloads some 400 MB once, from the proxy that
# `go env GOPROXY` names in an empty environment, so it is not part of the tests.
#
#   e2e/real.sh [MODULE@VERSION]      default: github.com/rclone/rclone@v1.75.1
#
# It needs Go, and for the steps without network root, ip, unshare and nginx.
set -euo pipefail
program=${1:-github.com/rclone/rclone@v1.75.1}
repo=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
gocache=$(go env GOCACHE) # compiled packages may be reused (-trimpath makes them alike); modules may not
trap 'pkill -P $$ || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/src"

say() { printf '\n== %s\n' "$*"; }
# client HOME-NAME GOPROXY COMMAND...: a go command that has never run before.
client() {
	local home=$work/$1 proxy=$2
	shift 2
	mkdir -p "$home"
	env -i PATH="$PATH" HOME="$home" GOCACHE="$gocache" GOPROXY="$proxy" GOFLAGS=-modcacherw GOTOOLCHAIN=local "$@"
}
serve() { # ARGUMENTS...: waits until it answers
	mkdir -p "$work/server"
	env -i PATH="$PATH" HOME="$work/server" "$work/sluice" serve "$@" 2>>"$work/serve.log" &
	server=$!
	for _ in $(seq 100); do
		if (exec 3<>/dev/tcp/127.0.0.1/7070) 2>/dev/null; then return; fi
		sleep 0.1
	done
	cat "$work/serve.log"
	exit 1
}
stop() { kill "$server" && wait "$server"; }

(cd "$repo" && CGO_ENABLED=0 go build -trimpath -o "$work/sluice" ./cmd/sluice)
default=$(env -i PATH="$PATH" HOME=/nonexistent GOENV=off go env GOPROXY)
say "a checkout of $program"
dir=$(cd "$work" && client fetch "$default" go mod download -json "$program" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$dir"/. "$work/src" && chmod -R u+w "$work/src"
cd "$work/src"
printf '%s modules in go.sum, %s in the build list\n' "$(awk '{print $1}' go.sum | sort -u | wc -l)" "$(client fetch "$default" go list -m all | wc -l)"

say "1. through Sluice with no configuration, checksum database on, GOPROXY naming nothing else"
serve
time client one http://127.0.0.1:7070 go mod download
time client one http://127.0.0.1:7070 go build -trimpath -o "$work/program" .
stop
grep -o 'outcome=[a-z]*' "$work/serve.log" | sort | uniq -c
data=$work/server/.cache/sluice

say "2. in a namespace without routes, empty module cache, go.sum deleted, so that everything is verified anew"
cp -r "$work/src" "$work/nosum" && rm "$work/nosum/go.sum"
export -f client serve
export work data gocache
unshare -n bash -euc '
	ip link set lo up
	serve
	cd "$work/nosum"
	client two http://127.0.0.1:7070 env GOFLAGS="-modcacherw -mod=mod" go build -trimpath -o "$work/program" .
	wc -l < go.sum
	kill $server; wait $server'
echo "built without a network"

say "3. sluice run in a fresh checkout with empty caches, then with a compile error"

client three "$default" "$work/sluice" run -- go build -trimpath ./... && echo "exit status 0"
mkdir "$work/broken" && cd "$work/broken"
printf 'module broken\n\ngo 1.26\n' >go.mod
printf 'package broken\n\nvar x int = "s"\n' >x.go
status=0
client three "$default" "$work/sluice" run -- go build ./... || status=$?
echo "exit status $status with a compile error; go's own is 1"
[ "$status" = 1 ]

say "4. the store as a file tree, and behind nginx, without Sluice and without a network"
cat >"$work/nginx.conf" <<EOF
daemon off; pid $work/nginx.pid; error_log $work/nginx.err;
events {}
http { access_log off; types {} default_type application/octet-stream;
	client_body_temp_path $work/n1; proxy_temp_path $work/n2; fastcgi_temp_path $work/n3; uwsgi_temp_path $work/n4; scgi_temp_path $work/n5;
	server { listen 127.0.0.1:7071; root $data; } }
EOF
chmod 711 "$work" "$work/server" "$work/server/.cache"
unshare -n bash -euc '
	ip link set lo up
	cd "$work/nosum" && rm -f go.sum
	client four "file://$data" env GOFLAGS="-modcacherw -mod=mod" go build -trimpath -o "$work/program" . && echo "built from file://"
	rm -f go.sum
	nginx -c "$work/nginx.conf" & nginx=$!
	sleep 1
	client five http://127.0.0.1:7071 env GOFLAGS="-modcacherw -mod=mod" go build -trimpath -o "$work/program" . && echo "built from nginx"
	kill $nginx'

say "the store, read again"
env -i PATH="$PATH" HOME="$work/server" "$work/sluice" verify --offline
