package once

import "time"

// Stats are figures of an [Inbox].
type Stats struct {
	Commits   int64         // records saved so far
	Conflicts int64         // saves so far that failed because another replica saved first
	Waiting   int           // changes that wait for their answer
	Oldest    time.Duration // how long the oldest waiting change has waited
}

// Stats returns the current figures.
func (in *Inbox[V]) Stats() Stats {
	s := Stats{Commits: in.commits.Load(), Conflicts: in.conflicts.Load()}
	in.mu.Lock()
	defer in.mu.Unlock()
	s.Waiting = len(in.pending)
	for _, since := range in.pending {
		s.Oldest = max(s.Oldest, time.Since(since))
	}
	return s
}
