package upstream

// Page is e as of an answer that is a page for people.
func Page(e Error) Error {
	e.page = true
	return e
}
