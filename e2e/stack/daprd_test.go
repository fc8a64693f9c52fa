package stack

import (
	"strings"
	"testing"
	"time"
)

// The estimate is right within a factor of two, measured by a build on two processors
// that took 263 s in all.
func TestWhatIsLeftOfABuild(t *testing.T) {
	for compiled, took := range map[int]int{100: 10, 300: 24, 500: 61, 700: 74, 900: 85, 1100: 114, 1300: 130, 1500: 180, 1700: 203, 1900: 230, 2100: 245} {
		text := left("daprd", compiled, time.Duration(took)*time.Second)
		_, rest, _ := strings.Cut(text, "about ")
		estimate, err := time.ParseDuration(strings.TrimSuffix(rest, " left"))
		if err != nil {
			t.Fatal(text)
		}
		if really := time.Duration(263-took) * time.Second; estimate > 2*really || 2*estimate < really {
			t.Errorf("after %d packages in %d s:%s, and it was %v", compiled, took, text, really)
		}
	}
	if text := left("daprd", 0, 0) + left("sentry", 10, time.Minute); text != "" {
		t.Errorf("an estimate of what is not known: %s", text)
	}
}
