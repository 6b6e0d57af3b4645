//go:build race

package mirror_test

// raced makes the tests that only have much of the same take a part of it: the
// race detector needs each way through the code once, and makes each ten times as
// slow.
const raced = true
