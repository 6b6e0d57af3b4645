package journal

import (
	"bytes"
	"os"
)

// overwrite writes what is in temp into the file called name, which has further names
// (hard links): another file in its place would part it from them. A process that is
// killed meanwhile leaves a mixture, which mixed knows.
func overwrite(temp, name string) error {
	data, err := os.ReadFile(temp)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		os.Remove(temp)
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	os.Remove(temp) // what is left of it if that fails, the next step removes
	return err
}

// mixed reports whether now is what overwrite leaves of a file that was old, if it is
// killed while it makes it become new.
func mixed(now, old, new []byte) bool {
	n := 0
	for n < len(now) && n < len(new) && now[n] == new[n] {
		n++
	}
	// From some byte on up to n, which is the last where it can have ended, it is old.
	for k := n; k >= 0; k-- {
		if k <= len(old) && bytes.Equal(now[k:], old[k:]) {
			return true
		}
	}
	return n == len(now) && n >= len(old)
}

// torn is what is in the file, if that is a mixture that overwrite has left of a step
// or its undoing; nil if it is not.
func (f File) torn() []byte {
	now, info, err := read(f.Real)
	if err != nil || info == nil || !f.Existed || !linked(info) || bytes.Equal(now, f.Before) || bytes.Equal(now, f.After) {
		return nil
	}
	if mixed(now, f.Before, f.After) || mixed(now, f.After, f.Before) {
		return now
	}
	return nil
}
