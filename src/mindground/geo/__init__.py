"""Satellite and aerial rasters: GeoTIFF in, GeoJSON and GeoTIFF out (extra `geo`)."""

from __future__ import annotations

from mindground.files.rasters import GeoImage, is_geotiff, read_geotiff
from mindground.geo.geojson import to_geojson, write_geojson
from mindground.geo.geotiff import write_geotiff

__all__ = ["GeoImage", "is_geotiff", "read_geotiff", "to_geojson", "write_geojson", "write_geotiff"]
