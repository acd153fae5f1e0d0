package api

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	img "github.com/getberth/berth/engine/image"
)

// archivePath is the path that a request for a container's files names.
func (c *call) archivePath() (string, error) {
	path := c.get("path")
	if path == "" {
		return "", invalid("bad parameter: path cannot be empty")
	}
	return path, nil
}

func (c *call) setStat(stat container.PathStat) error {
	data, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	c.w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(data))
	return nil
}

func archiveStat(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	stat, err := c.Containers.StatPath(c.ctx(), c.vars["name"], path)
	if err != nil {
		return err
	}
	return c.done(http.StatusOK, c.setStat(stat))
}

func archiveGet(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	tar, stat, err := c.Containers.GetArchive(c.ctx(), c.vars["name"], path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := c.setStat(stat); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-tar")
	_, err = io.Copy(c.w, tar)
	return err
}

// archivePut takes a tar, compressed or not, as SDKs send it. It has no bound of its own: what is unpacked is bounded by the container's disk.
func archivePut(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	tar, err := img.Decompress(c.r.Body)
	if err != nil {
		return invalid("reading the archive: %v", err)
	}
	defer tar.Close()
	err = c.Containers.PutArchive(c.ctx(), c.vars["name"], path, tar, c.flag("noOverwriteDirNonDir"), c.flag("copyUIDGID"))
	return c.done(http.StatusOK, err)
}
