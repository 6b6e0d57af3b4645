package store

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the store's metrics, for the wiring to register. What is not
// known is not among them.
func (d *Disk) Collectors() []prometheus.Collector {
	return []prometheus.Collector{usageCollector{d}}
}

type usageCollector struct{ d *Disk }

var (
	usageBytes    = prometheus.NewDesc("sluice_store_bytes", "What the stored modules take of the disk, in bytes; absent while it is unknown.", nil, nil)
	usageVersions = prometheus.NewDesc("sluice_store_versions", "Module versions of which anything is stored; absent while it is unknown.", nil, nil)
	usageQuota    = prometheus.NewDesc("sluice_store_quota_bytes", "What the stored modules may take of the disk, in bytes; 0 is any.", nil, nil)
	usageFull     = prometheus.NewDesc("sluice_store_quota_exhausted", "1 while nothing new is stored since the quota is used up by what is never evicted.", nil, nil)
	usageEvicted  = prometheus.NewDesc("sluice_store_evicted_total", "Module versions that were evicted to keep to the quota.", nil, nil)
	usageFreed    = prometheus.NewDesc("sluice_store_evicted_bytes_total", "What they took of the disk, in bytes.", nil, nil)
)

func (c usageCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{usageBytes, usageVersions, usageQuota, usageFull, usageEvicted, usageFreed} {
		ch <- d
	}
}

func (c usageCollector) Collect(ch chan<- prometheus.Metric) {
	u := c.d.Usage()
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	if u.Known {
		gauge(usageBytes, u.Bytes)
		gauge(usageVersions, u.Versions)
	}
	gauge(usageQuota, u.Quota)
	full := int64(0)
	if u.Full != nil {
		full = 1
	}
	gauge(usageFull, full)
	ch <- prometheus.MustNewConstMetric(usageEvicted, prometheus.CounterValue, float64(u.Evicted))
	ch <- prometheus.MustNewConstMetric(usageFreed, prometheus.CounterValue, float64(u.Freed))
}
