package faults

import (
	"net/http"
	"strings"
)

var (
	placeParam    = param{form: "PLACE", def: "50%", canon: canonPlace}
	secondsParam  = param{form: "SECONDS", canon: canonInt(0, 86400, "s"), example: "2"}
	durationParam = param{form: "DURATION", canon: canonDuration, example: "2s"}
	versionParam  = param{form: "VERSION", canon: canonVersion, example: "v1.0.0"}
)

// The catalogue, never changed.
var catalogue = []entry{
	{name: "none", doc: "well served", serve: (*exchange).pass},

	// Statuses, with a text/plain body.
	{name: "400", doc: "400 Bad Request", serve: status(http.StatusBadRequest)},
	{name: "401", doc: "401 Unauthorized, asking for Basic credentials", serve: status(http.StatusUnauthorized)},
	{name: "403", doc: "403 Forbidden", serve: status(http.StatusForbidden)},
	{name: "404", doc: "404 Not Found", serve: status(http.StatusNotFound)},
	{name: "407", doc: "407 Proxy Authentication Required", serve: status(http.StatusProxyAuthRequired)},
	{name: "410", doc: "410 Gone", serve: status(http.StatusGone)},
	{name: "429", doc: "429 Too Many Requests, with Retry-After", serve: status(http.StatusTooManyRequests),
		param: param{form: "SECONDS", def: "1", canon: secondsParam.canon}},
	{name: "500", doc: "500 Internal Server Error", serve: status(http.StatusInternalServerError)},
	{name: "502", doc: "502 Bad Gateway", serve: status(http.StatusBadGateway)},
	{name: "503", doc: "503 Service Unavailable, with Retry-After if given", serve: status(http.StatusServiceUnavailable), param: secondsParam},
	{name: "504", doc: "504 Gateway Timeout", serve: status(http.StatusGatewayTimeout)},
	{name: "404-html", doc: "404 with an HTML page, as a web server that is no proxy gives", serve: page(http.StatusNotFound)},

	// Answers that are no answers.
	{name: "html", doc: "200 with the HTML page of a captive portal", serve: page(http.StatusOK)},
	{name: "empty", doc: "200 with an empty body", serve: empty(http.StatusOK)},
	{name: "204", doc: "204 No Content", serve: empty(http.StatusNoContent)},
	{name: "noise", doc: "200 with random bytes of the right number", serve: noise},
	{name: "garbage", doc: "bytes that are not HTTP", serve: garbage},
	{name: "login-redirect", doc: "302 to a login page, which is a 200 in HTML", serve: loginRedirect},
	{name: "redirect-loop", doc: "302 for ever", serve: redirectLoop},
	{name: "redirect-nowhere", doc: "301 without a Location", serve: redirectNowhere},
	{name: "redirect", doc: "302 to the URL, with the request's path behind it if the URL ends in /", serve: redirect,
		param: param{form: "URL", required: true, example: "http://127.0.0.1:9/", canon: canonURL}},

	// Slowness.
	{name: "hang", waits: true, doc: "no header, for ever or for DURATION, then well served", serve: hang, param: durationParam},
	{name: "hang-body", waits: true, doc: "the body stops at PLACE, the connection stays", serve: spoil(hangBody), param: placeParam},
	{name: "drip", waits: true, doc: "the body at BYTES per second", serve: spoil(drip),
		param: param{form: "BYTES", def: "1", canon: canonInt(1, 1<<30, "/s")}},
	{name: "slow-list", kinds: []string{"list", "latest"}, waits: true, doc: "lists and @latest come only after DURATION", serve: slowList,
		param: param{form: "DURATION", def: "10s", canon: canonDuration}},
	{name: "endless", waits: true, doc: "a body of the right kind that never ends", serve: endless},

	// Broken transfers.
	{name: "reset", doc: "TCP reset, before the answer or at PLACE of the body", serve: reset,
		param: param{form: "PLACE", canon: canonPlace, example: "50%"}},
	{name: "cut", doc: "connection closed at PLACE, short of Content-Length", serve: spoil(cut), param: placeParam},
	{name: "cut-chunked", doc: "connection closed at PLACE of a chunked body, without the last chunk", serve: spoil(cutChunked), param: placeParam},
	{name: "cut-first", doc: "cut, but a Range request is well served: this one can be resumed", serve: cutFirst, param: placeParam},
	{name: "cut-norange", doc: "cut, and Range is ignored: every attempt begins at the start", serve: cutNoRange, param: placeParam},
	{name: "cut-range-lie", doc: "cut, and a Range request is answered 206 with bytes from the start", serve: cutRangeLie, param: placeParam},
	{name: "short", doc: "a well-formed answer with the body up to PLACE only", serve: spoil(short), param: placeParam},
	{name: "close", doc: "HTTP/1.0 without a length, connection closed at PLACE: nothing tells that it is cut", serve: spoil(closeAt), param: placeParam},

	// Odd encodings of the right bytes.
	{name: "drop-length", doc: "the right body without Content-Length", serve: spoil(dropLength)},
	{name: "gzip", doc: "the right body with Content-Encoding: gzip, asked for or not", serve: encode("gzip")},
	{name: "deflate", doc: "the right body with Content-Encoding: deflate, asked for or not", serve: encode("deflate")},

	// Lies. Zips:
	{name: "flip", kinds: []string{"zip"}, doc: "one bit of the zip is flipped, at PLACE or in a REGION: " + strings.Join(regions, ", "), serve: spoilZip(flipArg),
		param: param{form: "REGION or flip@PLACE", def: "data", canon: canonFlip}},
	{name: "bad-crc", kinds: []string{"zip"}, doc: "a member's checksum in the zip is wrong", serve: spoilZip(badCRC)},
	{name: "other-version", kinds: []string{"zip"}, doc: "the zip of another version", serve: otherVersion, param: versionParam},
	{name: "other-module", kinds: []string{"zip"}, doc: "the zip of another module", serve: otherModule,
		param: param{form: "PATH@VERSION", canon: canonModule, example: "example.com/other@v1.0.0"}},
	{name: "old-zip", kinds: []string{"zip"}, doc: "the files of an older version under the name of this one", serve: oldZip, param: versionParam},
	{name: "prefix", kinds: []string{"zip"}, doc: "the zip's members stand under another prefix", serve: spoilZip(otherPrefix)},
	{name: "zipslip", kinds: []string{"zip"}, doc: "the zip has a member that climbs out of its directory", serve: spoilZip(zipslip)},
	{name: "case-clash", kinds: []string{"zip"}, doc: "the zip has two members whose names differ in case only", serve: spoilZip(caseClash)},
	{name: "bomb", kinds: []string{"zip"}, doc: "the zip has a member of 1 GiB in 1 MiB, declared or hidden", serve: spoilZip(bomb),
		param: param{form: "declared or hidden", def: "declared", canon: canonWord("declared", "hidden")}},
	// and the others:
	{name: "wrong-mod", kinds: []string{"mod"}, doc: "the .mod has one requirement more", serve: wrongMod},
	{name: "wrong-info", kinds: []string{"info", "latest"}, doc: "the .info, or @latest, names another version", serve: wrongInfo},
	{name: "stale", doc: "the newest N versions are not there yet", serve: stale,
		param: param{form: "N", def: "1", canon: canonInt(1, 1<<20, "")}},

	// The network before the source.
	{name: "refused", doc: "connections are refused: nothing listens there", wire: &wire{dial: refuse}},
	{name: "black-hole", waits: true, doc: "connections are taken, and nothing is ever answered", wire: &wire{meet: swallow}},
	{name: "slam", doc: "connections are reset as soon as they are there", wire: &wire{meet: slam}},
	{name: "dns", doc: "the source's name does not exist", wire: &wire{nameless: true, dial: unknownName}},
	{name: "dns-lie", doc: "the source's name leads to somebody else, whose certificate is for another name", wire: &wire{tls: true, elsewhere: true, meet: somebodyElse}},
	{name: "tls-unknown-ca", doc: "a certificate that nobody known vouches for, as where TLS is intercepted", wire: &wire{tls: true, meet: badCertificate(false)}},
	{name: "tls-expired", doc: "a certificate that expired yesterday", wire: &wire{tls: true, meet: badCertificate(true)}},
	{name: "tls-stall", waits: true, doc: "the TLS handshake is never answered", wire: &wire{tls: true, meet: stall}},
	{name: "tls-refused", doc: "the TLS handshake is refused with an alert", wire: &wire{tls: true, meet: alert}},
	{name: "tls-plain", doc: "plain HTTP where TLS is expected", wire: &wire{tls: true, meet: plainTLS}},
}
