package harness

import (
	"path/filepath"

	"example.com/dapr-orders/e2e/stack"
)

// DeadLetterTopic has the orders that can't be counted.
const DeadLetterTopic = "OrderPlaced-dead-letter"

// DeadLetters returns how many events the dead-letter topic has.
func (s *System) DeadLetters() int {
	s.T.Helper()
	n, err := s.Broker.Len(DeadLetterTopic, "dead-letters")
	Must(s.T, err)
	return n
}

// StartDeadLetters starts the program that keeps dead letters.
func (s *System) StartDeadLetters(args ...string) *stack.App {
	s.T.Helper()
	o := Project.App(stack.DeadLetters)
	o.Args = args
	o.Env = []string{"DEAD_LETTERS_DIR=" + filepath.Join(s.T.TempDir(), "letters")}
	return s.StartApp(o)
}
