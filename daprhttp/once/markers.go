package once

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

const (
	maxRemembered = 1 << 15 // IDs that are remembered to have a marker, or twice as many
	minWrites     = 16      // markers written with one call to a store that can't do more in time
	maxWrites     = 128     // and to others
	maxShared     = 1 << 12 // IDs in a marker
)

// markers are the keys that have the IDs of changes that are no longer in their
// record. One goroutine at a time writes them, behind the commits.
type markers struct {
	store store

	mu      sync.Mutex
	known   memory           // IDs that have a marker
	waiting map[string]idSet // by key of a record, IDs whose markers are to be written
	writing bool
	atOnce  int   // markers written with one call: fewer after one that failed
	err     error // why markers were not written the last time
}

// A memory remembers the latest IDs that it was told, limit at least and twice as
// many at most. Nothing depends on it: what it has forgotten can be read again.
type memory struct {
	limit        int
	newer, older map[ID]struct{}
}

func (m *memory) add(id ID) {
	if m.newer == nil || len(m.newer) >= m.limit {
		m.older, m.newer = m.newer, make(map[ID]struct{})
	}
	m.newer[ID(strings.Clone(string(id)))] = struct{}{} // not the record of which it may be a part
}

func (m *memory) has(id ID) bool {
	if _, ok := m.newer[id]; ok {
		return true
	}
	_, ok := m.older[id]
	return ok
}

// knows reports whether a change is remembered to have a marker.
func (m *markers) knows(id ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.has(id)
}

// knowsAll reports whether all changes are remembered to have a marker.
func (m *markers) knowsAll(ids idSet) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range ids.all() {
		if !m.known.has(id) {
			return false
		}
	}
	return true
}

// remember notes that changes have markers, because a read or a save that succeeded
// has told so.
func (m *markers) remember(ids ...ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.known.add(id)
	}
}

// A marker is what was found under a marker's key.
type marker struct {
	ids idSet
	err error // it could not be read
}

// find reads the markers under keys, each once.
func (m *markers) find(ctx context.Context, keys []string) map[string]marker {
	slices.Sort(keys)
	found := make(map[string]marker)
	for key, s := range m.store.readStrong(ctx, slices.Compact(keys)) {
		found[key] = marker{decodeMarker(s.value), s.err}
	}
	return found
}

// decodeMarker reads a stored marker. What is none has nothing in it.
func decodeMarker(value []byte) (ids idSet) {
	if value == nil {
		return ""
	}
	if err := json.Unmarshal(value, &ids); err != nil || !ids.valid() {
		return ""
	}
	return ids
}

// failure returns why markers were not written the last time.
func (m *markers) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		return errors.New("their markers are being written")
	}
	return m.err
}

// write has the markers of changes to a key written, while the caller goes on. What
// can't be written now is written when the key is committed again: until then
// the IDs stay in its record.
func (m *markers) write(ctx context.Context, key string, ids idSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil {
		m.waiting = make(map[string]idSet)
	}
	m.waiting[key] = ids
	if !m.writing {
		m.writing = true
		go m.writeWaiting(ctx)
	}
}

// writeWaiting writes markers until there are none to write.
func (m *markers) writeWaiting(ctx context.Context) {
	for {
		m.mu.Lock()
		waiting := m.waiting
		m.waiting = nil
		m.writing = waiting != nil
		m.mu.Unlock()
		if waiting == nil {
			return
		}
		err := m.writeAll(ctx, waiting)
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
}

// writeAll writes markers, some with each call: what is written stays so when the
// rest can't be. Only one goroutine calls it.
func (m *markers) writeAll(ctx context.Context, changes map[string]idSet) error {
	placed := make(map[slot][]ID)
	for key, ids := range changes {
		place(placed, key, ids.filter(func(id ID) bool { return !m.knows(id) }))
	}
	for len(placed) > 0 {
		tooMany := make(map[slot][]ID)
		slots := slices.SortedFunc(maps.Keys(placed), slot.compare)
		for len(slots) > 0 {
			some := slots[:min(len(slots), max(m.atOnce, minWrites))]
			if err := m.writeSome(ctx, some, placed, tooMany); err != nil {
				m.atOnce = minWrites
				return err
			}
			m.atOnce = min(2*len(some), maxWrites)
			slots = slots[len(some):]
		}
		placed = tooMany
	}
	return nil
}

// writeSome adds the IDs that are placed in some slots to the markers there. Those
// for which a marker has no room it places in shorter spans.
func (m *markers) writeSome(ctx context.Context, slots []slot, placed, tooMany map[slot][]ID) error {
	var writes []write
	var written []ID
	var shared []string
	for _, s := range slots {
		if s.span != own {
			shared = append(shared, s.key())
		}
	}
	found, err := m.readShared(ctx, shared)
	if err != nil {
		return err
	}
	for _, s := range slots {
		key, ids := s.key(), placed[s]
		if s.span == own {
			writes = append(writes, write{key: key, value: ids[0], expires: true, always: true})
			written = append(written, ids[0])
			continue
		}
		marker := decodeMarker(found[key].value)
		missing := slices.DeleteFunc(slices.Clone(ids), marker.has)
		if marker.len()+len(missing) > maxShared {
			for _, id := range missing {
				finer := newSlot(s.owner, s.span-1, id)
				tooMany[finer] = append(tooMany[finer], id)
			}
			continue
		}
		if len(missing) > 0 {
			writes = append(writes, write{key: key, etag: found[key].etag, value: marker.with(missing), expires: true})
		}
		written = append(written, ids...)
	}
	if len(writes) > 0 {
		if err := m.store.save(ctx, writes); err != nil {
			return err
		}
	}
	m.remember(written...)
	return nil
}

// readShared reads the markers under keys.
func (m *markers) readShared(ctx context.Context, keys []string) (map[string]stored, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	found, err := m.store.read(ctx, keys)
	for _, s := range found {
		err = errors.Join(err, s.err)
	}
	return found, err
}
