package finding

// A ChangeKind is a kind of write that Sluice can make itself.
type ChangeKind string

const (
	SetGoEnv   ChangeKind = "go-env-set"   // go env -w NAME=VALUE
	UnsetGoEnv ChangeKind = "go-env-unset" // go env -u NAME
	// MendGoEnv puts right those lines of the go env -w file that do not do what they
	// seem to do.
	MendGoEnv ChangeKind = "go-env-mend"
)

// ChangeKinds lists all kinds. The caller owns the result.
func ChangeKinds() []ChangeKind { return []ChangeKind{SetGoEnv, UnsetGoEnv, MendGoEnv} }

// A Change is a fix, or a part of one, that Sluice can make itself and take back: exact,
// and right whatever the user knows beside. It holds no credentials.
type Change struct {
	Kind  ChangeKind `json:"kind"`
	Name  string     `json:"name"`  // of the variable; "" for MendGoEnv
	Value string     `json:"value"` // that it gets; "" but for SetGoEnv
}
