package drivers

import (
	"encoding/json"
	"fmt"
)

// Record makes a driver's record of the machine durable: record, as JSON, becomes h.State.
func (h *Host) Record(record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := h.Save(b); err != nil {
		return fmt.Errorf("machine %q: recording it: %w", h.Name, err)
	}
	h.State = b
	return nil
}

// Recorded reads what Record has written; there is false when nothing has been. A record whose version, the field of that name, is
// newer than the driver knows is an error.
func (h *Host) Recorded(driver string, newest int, record any) (there bool, err error) {
	if len(h.State) == 0 || string(h.State) == "null" {
		return false, nil
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(h.State, &v); err != nil {
		return false, fmt.Errorf("machine %q: reading the %s driver's record: %w", h.Name, driver, err)
	}
	if v.Version > newest {
		return false, fmt.Errorf("machine %q: the %s driver's record has version %d, this berth knows %d: use a newer berth", h.Name, driver, v.Version, newest)
	}
	if err := json.Unmarshal(h.State, record); err != nil {
		return false, fmt.Errorf("machine %q: reading the %s driver's record: %w", h.Name, driver, err)
	}
	return true, nil
}
