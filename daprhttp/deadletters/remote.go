package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"example.com/dapr-orders/daprhttp/web"
)

// direct uses no proxy, because the program that serves runs on the same machine. It follows
// no redirect, which would send the token to another server.
var direct = &http.Client{
	Transport:     new(http.Transport),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// A remote sends the requests of the command line to the program that serves.
type remote struct{ url, token string }

// list writes a table of the letters.
func (r remote) list(ctx context.Context, stdout io.Writer) error {
	var letters []summary
	if err := r.do(ctx, "GET", "/letters", &letters); err != nil {
		return err
	}
	if len(letters) == 0 {
		fmt.Fprintln(stdout, "no dead letters")
		return nil
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tRECEIVED\tEVENT\tREASON\tDATA")
	for _, l := range letters {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.ID, l.ReceivedAt.Format(time.DateTime), web.Visible(l.EventID), web.Visible(l.Reason), web.Visible(l.Data))
	}
	return w.Flush()
}

// each makes one request for each ID, and writes the results. The only ID "all" stands for
// the IDs of all letters.
func (r remote) each(ctx context.Context, ids []string, method, action, done string, stdout io.Writer) error {
	if slices.Equal(ids, []string{"all"}) {
		var letters []summary
		if err := r.do(ctx, "GET", "/letters", &letters); err != nil {
			return err
		}
		ids = nil
		for _, l := range letters {
			ids = append(ids, l.ID)
		}
	}
	var errs []error
	for _, id := range ids {
		if err := r.do(ctx, method, "/letters/"+url.PathEscape(id)+action, new(any)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
		} else {
			fmt.Fprintln(stdout, id, done)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// do makes one request and reads the JSON of its answer into v.
func (r remote) do(ctx context.Context, method, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("dapr-api-token", r.token)
	resp, err := direct.Do(req)
	if err != nil {
		return fmt.Errorf("%w (is `deadletters serve` running?)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var failed struct{ Error string }
	switch err := json.Unmarshal(body, v); {
	case resp.StatusCode == http.StatusOK && err == nil:
		return nil
	case json.Unmarshal(body, &failed) == nil && failed.Error != "":
		return errors.New(failed.Error)
	default:
		return fmt.Errorf("%s %s answered %s: %.200s", method, path, resp.Status, body)
	}
}
