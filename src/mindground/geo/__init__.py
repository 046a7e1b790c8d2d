"""Satellite and aerial rasters: GeoTIFF in, GeoJSON out (extra `geo`)."""

from __future__ import annotations

from mindground.files.rasters import GeoImage, is_geotiff, read_geotiff
from mindground.geo.geojson import to_geojson, write_geojson

__all__ = ["GeoImage", "is_geotiff", "read_geotiff", "to_geojson", "write_geojson"]
