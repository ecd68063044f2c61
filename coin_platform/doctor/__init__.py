"""`coin doctor`: what must hold before the platform can work here, one check for each thing. Nothing is changed."""
