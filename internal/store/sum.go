package store

import "encoding/hex"

// Sum implements Pending.
func (p *diskPending) Sum() string { return hex.EncodeToString(p.sum.Sum(nil)) }

// Sum implements Pending; memPending has it by embedding.
func (s *spool) Sum() string { return hex.EncodeToString(s.sum.Sum(nil)) }
