package store

// A fileID is what a file system says of a file without reading it. Whoever
// changes a file changes it; ctime cannot be set back like mtime.
type fileID struct {
	dev, ino     uint64 // zero where the system does not say
	size         int64
	mtime, ctime int64 // nanoseconds; ctime is zero where there is none
}

// changed is when the file was changed last.
func (id fileID) changed() int64 { return max(id.mtime, id.ctime) }
