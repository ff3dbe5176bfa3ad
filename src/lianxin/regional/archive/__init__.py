"""The DICOM store and its doors."""
