package server

// InFlight is how many requests s is answering.
func InFlight(s *Server) int64 { return s.inFlight.Load() }
