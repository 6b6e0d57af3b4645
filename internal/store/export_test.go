package store

// Reflink tells tests what the file system of theirs can do.
var Reflink = reflink
